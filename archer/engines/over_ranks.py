"""One generator over every rank's engine: rank 0 leads an evaluation, every rank samples its share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from archer.distributed import Ranks
from archer.engines.base import Generator
from archer.engines.queue import FixedQueue, RequestQueue, closed_after
from archer.types import Json, Problem, Request, Rollout, Sampling

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
                self._gather([as_text(rollout) for rollout in self._share(*job)])
            return None
        try:
            return work(self)
        finally:
            self._broadcast(None)

    def generate(self, queue: RequestQueue, sampling: Sampling) -> Iterator[Rollout]:
        """Sample every request on one of the ranks; yield rollouts without token ids, those of other ranks last.

        See :class:`archer.engines.base.Generator`.
        """
        while part := queue.take(ROUND * self.ranks.world, True):
            self._broadcast((part, sampling))
            with closed_after(self._share(part, sampling)) as own:
                try:
                    for rollout in own:
                        yield as_text(rollout)
                except GeneratorExit:  # the other ranks wait here with their share
                    self._gather([])
                    raise
            for rollouts in self._gather([]):
                yield from rollouts

    def prompt(self, problem: Problem) -> Json:
        """Return the engine's input for a problem."""
        return self.engine.prompt(problem)

    def describe(self) -> Mapping[str, Json]:
        """The description is the same on every rank."""
        return self.engine.describe()

    def _broadcast(self, job: Job | None) -> Job | None:
        return self.ranks.broadcast("an evaluation's next samples", job)

    def _share(self, part: list[Request], sampling: Sampling) -> Iterator[Rollout]:
        """Sample this rank's share of ``part``."""
        return self.engine.generate(FixedQueue(part[self.ranks.rank :: self.ranks.world], logps=False), sampling)

    def _gather(self, rollouts: list[Rollout]) -> list[list[Rollout]]:
        return self.ranks.gather("the answers of an evaluation", rollouts)


def as_text(rollout: Rollout) -> Rollout:
    """Return what an evaluation keeps of a rollout: the text and the number of tokens."""
    return Rollout.of_text(
        rollout.problem, rollout.text, rollout.stop, sample=rollout.sample, seed=rollout.seed, counted=rollout.length
    )
