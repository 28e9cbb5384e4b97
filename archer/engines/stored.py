"""A generator that only names stored samples, so they can be graded again without the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from archer.engines.queue import RequestQueue
from archer.errors import DataError
from archer.types import Json, Problem, Rollout, Sampling


@dataclass(frozen=True)
class StoredGenerator:
    """Has the prompts and the description of the engine that sampled the store, so sample keys come out the same."""

    render: Callable[[Problem], Json]
    description: Mapping[str, Json]

    def generate(self, queue: RequestQueue, sampling: Sampling) -> Iterator[Rollout]:
        """Yield nothing. Raises DataError if any sample is requested: it is missing in the store."""
        if queue.waiting:
            raise DataError(
                f"--regrade: {len(queue.waiting)} samples are not in the store ({queue.waiting[0].problem.id} and "
                "others); run the same command without --regrade to draw them"
            )
        return iter(())

    def prompt(self, problem: Problem) -> Json:
        """Return the model's input for a problem."""
        return self.render(problem)

    def describe(self) -> Mapping[str, Json]:
        """Return the description of the engine that sampled the store."""
        return self.description
