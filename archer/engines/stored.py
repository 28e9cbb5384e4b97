"""A generator that only names stored samples, so they can be graded again without the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from archer.engines.base import OnCompletion
from archer.errors import DataError
from archer.types import Json, Problem, Request, Sampling


@dataclass(frozen=True)
class StoredGenerator:
    """Has the prompts and the description of the engine that sampled the store, so sample keys come out the same."""

    render: Callable[[Problem], Json]
    description: Mapping[str, Json]

    def complete(self, requests: Sequence[Request], sampling: Sampling, on_completion: OnCompletion) -> None:
        """Raise DataError if any sample is requested: it is missing in the store."""
        missing = sum(len(request.samples) for request in requests)
        if missing:
            raise DataError(
                f"--regrade: {missing} samples are not in the store ({requests[0].problem.id} and others); run the "
                "same command without --regrade to draw them"
            )

    def prompt(self, problem: Problem) -> Json:
        """Return the model's input for a problem."""
        return self.render(problem)

    def describe(self) -> Mapping[str, Json]:
        """Return the description of the engine that sampled the store."""
        return self.description
