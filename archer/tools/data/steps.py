"""The steps between reading and writing, by name: each yields the candidates that it drops.

A step is a frozen dataclass of its numbers that one calls; ``identity`` returns what its drops depend on beside these
numbers and the candidates, so that a finished step is repeated only if something changed.
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
BATCH = 2048  # candidates compared with the benchmarks at a time
CHUNK = 512  # candidates whose samples are in memory at a time


@dataclass(frozen=True)
class StepTools:
    """What a step may use. The step puts into ``facts`` what it found; they go into its report."""

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
        """Yield the candidates that are dropped."""
        ...


@with_config(STRICT)
@dataclass(frozen=True)
class EnoughTests:
    """Drops problems with fewer than ``least`` tests."""

    least: int = 5

    def identity(self, tools: StepTools) -> Json:
        """Return None: the drops depend on nothing else."""
        return None

    def __call__(self, candidates: Candidates, tools: StepTools) -> Iterator[Drop]:
        """See :class:`BuildStep`."""
        for candidate in candidates:
            count = len(candidate.gold["tests"])
            if count < self.least:
                yield Drop(candidate.id, f"fewer than {self.least} tests", str(count))


@with_config(STRICT)
@dataclass(frozen=True)
class DropCopies(Duplicates):
    """:class:`~archer.tools.data.duplicates.Duplicates` as a step."""

    def identity(self, tools: StepTools) -> Json:
        """Return None: the drops depend on nothing else."""
        return None

    def __call__(self, candidates: Candidates, tools: StepTools) -> Iterator[Drop]:
        """See :class:`BuildStep`."""
        return self.copies(candidates)


@with_config(STRICT)
@dataclass(frozen=True)
class DropBenchmarks:
    """Drops candidates that share ``n`` consecutive words with a problem of these benchmarks and are ``alike`` enough.

    ``alike`` is the least share of equal words in order, see :mod:`archer.tools.overlap`; 0 drops every candidate that
    shares the words.
    """

    names: tuple[str, ...]
    n: int = N
    alike: float = 0.5

    def __post_init__(self) -> None:
        """Raise RecipeError for values that make no sense."""
        if not self.names or self.n < 2 or not 0 <= self.alike <= 1:
            raise RecipeError(f"benchmarks: expected names, n >= 2 and alike within 0 and 1, found {self}")

    def identity(self, tools: StepTools) -> Json:
        """Return what identifies the benchmarks' rows."""
        return {name: rows_of(located(name, tools.benchmarks).data) for name in self.names}

    def __call__(self, candidates: Candidates, tools: StepTools) -> Iterator[Drop]:
        """See :class:`BuildStep`."""
        known = self._problems(tools)
        tools.facts["problems"] = {name: len(problems) for name, problems in known.items()}
        for batch in chunks(candidates, BATCH):
            rows = [TrainingRow(number, words_of(candidate.statement), "") for number, candidate in enumerate(batch)]
            dropped = dict[int, Drop]()
            for name, problems in known.items():
                for pair in compare(name, problems, rows, self.n).pairs:
                    if pair.alike >= self.alike:
                        detail = f"{pair.problem}: {pair.alike:.2f} alike, {pair.shared!r}"
                        dropped.setdefault(pair.row, Drop(batch[pair.row].id, f"in {name}", detail))
            yield from (dropped[number] for number in sorted(dropped))

    def _problems(self, tools: StepTools) -> dict[str, list[Problem]]:
        """Return the problems by benchmark. Raises DataError if their number is not the benchmark's."""
        problems = {}
        for name in self.names:
            benchmark = located(name, tools.benchmarks)
            problems[name] = statements(benchmark)
            if len(problems[name]) != benchmark.problems:
                raise DataError(
                    f"{name}: {len(problems[name])} problems, its YAML says {benchmark.problems}; "
                    f"give all of it with --data {name}=PATH"
                )
        return problems


@with_config(STRICT)
@dataclass(frozen=True)
class DropBySamples:
    """Drops problems by how many of a model's ``samples`` are right: ``all_wrong``, ``all_right`` or both.

    ``model`` is the paper's; ``--filter`` names the one that is run here. ``template`` and ``context`` are as in a
    recipe. Problems whose prompt leaves no room for ``max_tokens`` are dropped too, if the model is loaded here.
    """

    drop: tuple[Literal["all_wrong", "all_right"], ...]
    model: str
    samples: int = 8
    sampling: Sampling = field(default_factory=Sampling)
    template: Mapping[str, Json] = field(default_factory=dict)
    context: int | None = None

    def __post_init__(self) -> None:
        """Raise RecipeError for values that make no sense."""
        sampling = self.sampling
        if (
            self.samples < 1
            or not self.drop
            or (self.samples > 1 and sampling.temperature <= 0)
            or sampling.max_tokens < 1
        ):
            raise RecipeError(f"sampled: expected something to drop, samples and a temperature, found {self}")

    def identity(self, tools: StepTools) -> Json:
        """Return the model, its seed and the verifier."""
        assert tools.sampler is not None, "a step without its filter is not run"
        return tools.sampler.identity()

    def __call__(self, candidates: Candidates, tools: StepTools) -> Iterator[Drop]:
        """See :class:`BuildStep`."""
        assert tools.sampler is not None, "a step without its filter is not run"
        counts = [0] * (self.samples + 1)
        with tools.sampler.open(self.samples, self.sampling, tools.folder) as draw:
            for number, batch in enumerate(chunks(candidates, CHUNK)):
                asked = [tools.ask(candidate) for candidate in batch]
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
    """:class:`~archer.tools.data.length.Longest` as a step; ``--filter`` names the model whose tokenizer counts."""

    template: Mapping[str, Json] = field(default_factory=dict)

    def identity(self, tools: StepTools) -> Json:
        """Return the tokenizer."""
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
    """Yield the items in lists of ``size``; the last list may be shorter."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def needs_model(step: BuildStep) -> bool:
    """Return whether a step needs the model that ``--filter`` names."""
    return isinstance(step, DropBySamples | DropLong)
