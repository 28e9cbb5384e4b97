"""Every rank's engine behind one: rank 0 asks, all answer their share. For evaluations, which one rank leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from archer.distributed import Ranks
from archer.engines.base import Completion, Generator, OnCompletion
from archer.types import Json, Problem, Request, Sampling

T = TypeVar("T")
ROUND = 4096  # samples of a rank between two gatherings: what a kill may lose
Errand = tuple[list[Request], Sampling]


@dataclass(frozen=True)
class GeneratorOverRanks:
    """A :class:`~archer.engines.base.Generator` over all ranks; the others must be in :meth:`lead` too."""

    engine: Generator
    ranks: Ranks

    def lead(self, work: Callable[[Generator], T]) -> T | None:
        """Return what ``work`` makes of this respondent, on rank 0; answer for it and return None on the others."""
        if self.ranks.world == 1:
            return work(self.engine)
        if not self.ranks.main:
            while (errand := self._sent(None)) is not None:
                self._share(*errand, None)
            return None
        try:
            return work(self)
        finally:
            self._sent(None)

    def complete(self, asks: Sequence[Request], sampling: Sampling, answered: OnCompletion) -> None:
        """Draw every sample, each on one rank; see :class:`archer.engines.base.Generator`."""
        rows = [(ask, sample) for ask in asks for sample in ask.samples]
        size = ROUND * self.ranks.world
        for start in range(0, len(rows), size):
            part = together(rows[start : start + size])
            self._sent((part, sampling))
            self._share(part, sampling, answered)

    def prompt(self, problem: Problem) -> Json:
        """Return what the engine is given."""
        return self.engine.prompt(problem)

    def describe(self) -> Mapping[str, Json]:
        """Return the engine's description: who draws decides nothing."""
        return self.engine.describe()

    def _sent(self, errand: Errand | None) -> Errand | None:
        return self.ranks.broadcast("an evaluation's next samples", errand)

    def _share(self, asks: list[Request], sampling: Sampling, answered: OnCompletion | None) -> None:
        """Answer this rank's samples; where somebody listens, the others' too, once all have answered."""
        rows = [(ask, sample) for ask in asks for sample in ask.samples]
        own: list[Completion] = []
        self.engine.complete(together(rows[self.ranks.rank :: self.ranks.world]), sampling, answered or own.append)
        for answers in self.ranks.gather("the answers of an evaluation", own):
            for answer in answers:
                if answered:
                    answered(answer)


def together(rows: Sequence[tuple[Request, int]]) -> list[Request]:
    """Gather samples into one request for each that they came from."""
    samples: dict[int, list[int]] = {}
    asks: dict[int, Request] = {}
    for ask, sample in rows:
        samples.setdefault(id(ask), []).append(sample)
        asks[id(ask)] = ask
    return [replace(asks[key], samples=tuple(numbers)) for key, numbers in samples.items()]
