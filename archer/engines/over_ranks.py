"""One generator over every rank's engine: rank 0 leads an evaluation, every rank samples its share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from archer.distributed import Ranks
from archer.engines.base import Completion, Generator, OnCompletion
from archer.types import Json, Problem, Request, Sampling

T = TypeVar("T")
ROUND = 4096  # samples per rank between two gathers: the most that a kill loses
Job = tuple[list[Request], Sampling]


@dataclass(frozen=True)
class GeneratorOverRanks:
    """A :class:`~archer.engines.base.Generator` over all ranks; every rank must call :meth:`lead`."""

    engine: Generator
    ranks: Ranks

    def lead(self, work: Callable[[Generator], T]) -> T | None:
        """On rank 0 return ``work(self)``; on the others sample for it and return None."""
        if self.ranks.world == 1:
            return work(self.engine)
        if not self.ranks.main:
            while (job := self._broadcast(None)) is not None:
                self._share(*job, None)
            return None
        try:
            return work(self)
        finally:
            self._broadcast(None)

    def complete(self, requests: Sequence[Request], sampling: Sampling, on_completion: OnCompletion) -> None:
        """Sample every response on one of the ranks; see :class:`archer.engines.base.Generator`."""
        rows = [(request, sample) for request in requests for sample in request.samples]
        size = ROUND * self.ranks.world
        for start in range(0, len(rows), size):
            part = merge_samples(rows[start : start + size])
            self._broadcast((part, sampling))
            self._share(part, sampling, on_completion)

    def prompt(self, problem: Problem) -> Json:
        """Return the engine's input for a problem."""
        return self.engine.prompt(problem)

    def describe(self) -> Mapping[str, Json]:
        """The description is the same on every rank."""
        return self.engine.describe()

    def _broadcast(self, job: Job | None) -> Job | None:
        return self.ranks.broadcast("an evaluation's next samples", job)

    def _share(self, requests: list[Request], sampling: Sampling, on_completion: OnCompletion | None) -> None:
        """Sample this rank's share; pass the other ranks' completions to ``on_completion`` after a gather."""
        rows = [(request, sample) for request in requests for sample in request.samples]
        own: list[Completion] = []
        self.engine.complete(
            merge_samples(rows[self.ranks.rank :: self.ranks.world]), sampling, on_completion or own.append
        )
        for completions in self.ranks.gather("the answers of an evaluation", own):
            for completion in completions:
                if on_completion:
                    on_completion(completion)


def merge_samples(rows: Sequence[tuple[Request, int]]) -> list[Request]:
    """Put (request, sample) pairs back together, one request for each distinct one."""
    samples: dict[int, list[int]] = {}
    requests: dict[int, Request] = {}
    for request, sample in rows:
        samples.setdefault(id(request), []).append(sample)
        requests[id(request)] = request
    return [replace(requests[key], samples=tuple(numbers)) for key, numbers in samples.items()]
