"""An engine that draws nothing: for grading stored samples again, without the model that drew them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from archer.engines.base import OnCompletion
from archer.errors import DataError
from archer.types import Json, Problem, Request, Sampling


@dataclass(frozen=True)
class StoredGenerator:
    """Names samples as the engine did that drew them: by its prompts and its description."""

    render: Callable[[Problem], Json]
    description: Mapping[str, Json]

    def complete(self, asks: Sequence[Request], sampling: Sampling, answered: OnCompletion) -> None:
        """Raise DataError: what is asked for is what the store lacks."""
        missing = sum(len(ask.samples) for ask in asks)
        if missing:
            raise DataError(
                f"--regrade: {missing} samples are not in the store ({asks[0].problem.id} and others); run the same "
                "command without --regrade to draw them"
            )

    def prompt(self, problem: Problem) -> Json:
        """Return what the model was given."""
        return self.render(problem)

    def describe(self) -> Mapping[str, Json]:
        """Return the description of the engine that drew the samples."""
        return self.description
