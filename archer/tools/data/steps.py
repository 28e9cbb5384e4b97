"""The steps between reading and writing, by name: each yields the candidates that go no further.

A step is a frozen dataclass of its numbers that one calls; ``identity`` tells what its drops depend on beside them
and the candidates, so that a finished step is done again only where something changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from pydantic import with_config

from archer.errors import DataError, RecipeError
from archer.evaluation.loaded import located
from archer.recipe.config import STRICT
from archer.tools.data.candidate import Ask, Candidates, Drop
from archer.tools.data.duplicates import Duplicates
from archer.tools.data.length import Longest
from archer.tools.data.origins import rows_of
from archer.tools.overlap import N, TrainingRow, compare, statements, words_of
from archer.types import Json, Problem, Sampling

if TYPE_CHECKING:
    from archer.tools.data.sampling import FilterModel  # which loads torch

T = TypeVar("T")
BATCH = 2048  # candidates that are compared with the benchmarks at a time
CHUNK = 512  # candidates whose samples are in memory at a time


@dataclass(frozen=True)
class StepTools:
    """What a step may use. ``facts`` is the step's own to fill: what it found goes into its report."""

    ask: Ask
    folder: Path
    benchmarks: Mapping[str, Path] = field(default_factory=dict)
    sampler: FilterModel | None = None
    facts: dict[str, Json] = field(default_factory=dict)


class BuildStep(Protocol):
    """One step of a pipeline."""

    def identity(self, tools: StepTools) -> Json:
        """Return what the drops depend on, beside the step's own values and the candidates."""
        ...

    def __call__(self, candidates: Candidates, tools: StepTools) -> Iterator[Drop]:
        """Yield what goes no further."""
        ...


@with_config(STRICT)
@dataclass(frozen=True)
class EnoughTests:
    """Drops problems with fewer than ``least`` tests."""

    least: int = 5

    def identity(self, tools: StepTools) -> Json:
        """Nothing else."""
        return None

    def __call__(self, candidates: Candidates, tools: StepTools) -> Iterator[Drop]:
        """See :class:`BuildStep`."""
        for one in candidates:
            count = len(one.gold["tests"])
            if count < self.least:
                yield Drop(one.id, f"fewer than {self.least} tests", str(count))


@with_config(STRICT)
@dataclass(frozen=True)
class DropCopies(Duplicates):
    """:class:`~archer.tools.data.duplicates.Duplicates` as a step."""

    def identity(self, tools: StepTools) -> Json:
        """Nothing else."""
        return None

    def __call__(self, candidates: Candidates, tools: StepTools) -> Iterator[Drop]:
        """See :class:`BuildStep`."""
        return self.copies(candidates)


@with_config(STRICT)
@dataclass(frozen=True)
class DropBenchmarks:
    """Drops what shares ``n`` words in a row with a problem of these benchmarks and is at least so ``alike`` to it.

    ``alike`` is the share of the words of both that agree in order, see :mod:`archer.tools.overlap`; 0 drops whatever
    shares the words.
    """

    names: tuple[str, ...]
    n: int = N
    alike: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be meant. Raises RecipeError."""
        if not self.names or self.n < 2 or not 0 <= self.alike <= 1:
            raise RecipeError(f"benchmarks: expected names, n >= 2 and alike within 0 and 1, found {self}")

    def identity(self, tools: StepTools) -> Json:
        """The benchmarks' rows."""
        return {name: rows_of(located(name, tools.benchmarks).data) for name in self.names}

    def __call__(self, candidates: Candidates, tools: StepTools) -> Iterator[Drop]:
        """See :class:`BuildStep`."""
        known = self._problems(tools)
        tools.facts["problems"] = {name: len(problems) for name, problems in known.items()}
        for batch in chunks(candidates, BATCH):
            rows = [TrainingRow(place, words_of(one.statement), "") for place, one in enumerate(batch)]
            dropped = dict[int, Drop]()
            for name, problems in known.items():
                for pair in compare(name, problems, rows, self.n).pairs:
                    if pair.alike >= self.alike:
                        told = f"{pair.problem}: {pair.alike:.2f} alike, {pair.shared!r}"
                        dropped.setdefault(pair.row, Drop(batch[pair.row].id, f"in {name}", told))
            yield from (dropped[place] for place in sorted(dropped))

    def _problems(self, tools: StepTools) -> dict[str, list[Problem]]:
        """Return the problems by benchmark. Raises DataError where they are not as many as the benchmark has."""
        found = {}
        for name in self.names:
            benchmark = located(name, tools.benchmarks)
            found[name] = statements(benchmark)
            if len(found[name]) != benchmark.problems:
                raise DataError(
                    f"{name}: {len(found[name])} problems, its YAML says {benchmark.problems}; "
                    f"give all of it with --data {name}=PATH"
                )
        return found


@with_config(STRICT)
@dataclass(frozen=True)
class DropBySamples:
    """Drops problems by how many of a model's ``samples`` are right: ``all_wrong``, ``all_right`` or both.

    ``model`` is whom the paper asked; who is asked here is said by ``--filter``. ``template`` and ``context`` are a
    recipe's. A problem whose prompt leaves a model that is loaded here no room for ``max_tokens`` is dropped too.
    """

    drop: tuple[Literal["all_wrong", "all_right"], ...]
    model: str
    samples: int = 8
    sampling: Sampling = field(default_factory=Sampling)
    template: Mapping[str, Json] = field(default_factory=dict)
    context: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant. Raises RecipeError."""
        one = self.sampling
        if self.samples < 1 or not self.drop or (self.samples > 1 and one.temperature <= 0) or one.max_tokens < 1:
            raise RecipeError(f"sampled: expected something to drop, samples and a temperature, found {self}")

    def identity(self, tools: StepTools) -> Json:
        """Who answers, with which seed, and who grades."""
        assert tools.sampler is not None, "a step without its filter is not run"
        return tools.sampler.identity()

    def __call__(self, candidates: Candidates, tools: StepTools) -> Iterator[Drop]:
        """See :class:`BuildStep`."""
        assert tools.sampler is not None, "a step without its filter is not run"
        counts = [0] * (self.samples + 1)
        with tools.sampler.open(self.samples, self.sampling, tools.folder) as draw:
            for number, batch in enumerate(chunks(candidates, CHUNK)):
                asked = [tools.ask(one) for one in batch]
                fitting = [problem for problem in asked if draw.fits(problem)]
                right = draw(number, fitting)
                for problem in asked:
                    counts[right.get(problem.id, 0)] += problem.id in right
                    reason = self._reason(right.get(problem.id))
                    if reason:
                        yield Drop(problem.id, reason, tools.sampler.model)
        tools.facts["right"] = {str(number): count for number, count in enumerate(counts)}
        tools.facts["by"] = draw.facts()

    def _reason(self, right: int | None) -> str:
        if right is None:
            return "prompt too long"
        if right == 0 and "all_wrong" in self.drop:
            return f"none of {self.samples} right"
        return f"all of {self.samples} right" if right == self.samples and "all_right" in self.drop else ""


@with_config(STRICT)
@dataclass(frozen=True)
class DropLong(Longest):
    """:class:`~archer.tools.data.length.Longest` as a step; ``--filter`` says whose tokenizer counts."""

    template: Mapping[str, Json] = field(default_factory=dict)

    def identity(self, tools: StepTools) -> Json:
        """Whose tokenizer."""
        assert tools.sampler is not None, "a step without its filter is not run"
        return tools.sampler.tokenizer()

    def __call__(self, candidates: Candidates, tools: StepTools) -> Iterator[Drop]:
        """See :class:`BuildStep`."""
        assert tools.sampler is not None, "a step without its filter is not run"
        return self.longer(candidates, tools.ask, tools.sampler.recipe.model)


STEPS: dict[str, type[EnoughTests | DropCopies | DropBenchmarks | DropBySamples | DropLong]] = {
    "tests": EnoughTests,
    "duplicates": DropCopies,
    "benchmarks": DropBenchmarks,
    "sampled": DropBySamples,
    "length": DropLong,
}


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of this size, the last perhaps shorter."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def needs_model(step: BuildStep) -> bool:
    """Say whether a step needs the model that ``--filter`` names."""
    return isinstance(step, DropBySamples | DropLong)
