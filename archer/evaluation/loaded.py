"""A benchmark with its problems: loaded, then checked against what its YAML pins."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from archer.errors import DataError, did_you_mean
from archer.evaluation.benchmark import (
    Benchmark,
    benchmark_names,
    fingerprint,
    is_file,
    read_benchmark,
    unconfirmed,
    verify,
)
from archer.problems.rows import SUFFIXES, is_local, local_files
from archer.problems.streams import read_problems
from archer.recipe.rewards import counted_reward
from archer.types import Problem


@dataclass(frozen=True)
class LoadedBenchmark:
    """A benchmark with its problems, checked against the count and checksum it pins.

    ``notes`` say what could not be checked, for display beside every number computed from it.
    """

    benchmark: Benchmark
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()

    def part(self, problems: int, samples: int) -> LoadedBenchmark:
        """Return the first ``problems`` with ``samples`` each: for curves, which show means alone, not for tables."""
        metrics = self.benchmark.metrics if samples == self.benchmark.samples else ("mean",)
        benchmark = replace(self.benchmark, samples=samples, metrics=metrics)
        return replace(self, benchmark=benchmark, problems=self.problems[:problems])


def load_benchmark(name: str, samples: int | None = None, data: Mapping[str, Path] | None = None) -> LoadedBenchmark:
    """Load a benchmark's problems, from the file or folder that ``data`` gives for its name or from the hub.

    ``samples`` overrides its K; of a sum of rewards the first one grades. Raises DataError if the problems differ from
    the pins, or come from the hub while a pin is unconfirmed.
    """
    benchmark = located(name, data)
    if benchmark.confirm and name not in (data or {}) and not is_own(name, benchmark):
        raise DataError(
            f"benchmarks: {name}: {' and '.join(benchmark.confirm)} not yet compared with {benchmark.data.path} on the "
            f"hub; run `archer benchmarks pin {name}` first, or name a copy with --data {name}=PATH"
        )
    problems = tuple(read_problems(benchmark.data, benchmark.problems))
    verify(benchmark, problems)
    notes = tuple(unconfirmed(benchmark))
    if not benchmark.sha256:
        benchmark = replace(benchmark, sha256=fingerprint(problems))
        note = f"{name}: no checksum is pinned: the rows of {benchmark.data.path} are taken as they are"
        if not is_own(name, benchmark):
            warnings.warn(note, stacklevel=2)
        notes = (*notes, note)
    problems = tuple(replace(problem, reward=counted_reward(problem.reward)) for problem in problems)
    return LoadedBenchmark(replace(benchmark, samples=samples or benchmark.samples), problems, notes)


def located(name: str, data: Mapping[str, Path] | None = None) -> Benchmark:
    """Return a benchmark with its rows at the path in ``data``, if it is there, else on the hub at a revision."""
    benchmark = read_benchmark(name)
    if data is not None and name in data:
        return replace(benchmark, data=replace(benchmark.data, path=str(data[name].absolute())))
    hub = benchmark.data.path and not is_own(name, benchmark)
    revision = (benchmark.data.revision or "main") if hub else None
    return replace(benchmark, data=replace(benchmark.data, revision=revision))


def is_own(name: str, benchmark: Benchmark) -> bool:
    """Whether a benchmark is named by its file and has its rows in one: nothing of it is on the hub."""
    return is_file(name) and is_local(benchmark.data)


def read_data(options: Sequence[str]) -> dict[str, Path]:
    """Parse ``NAME=PATH`` options: a benchmark's .json or .jsonl file, or a folder of them.

    Raises DataError for an unknown name, a name given twice, generated problems, and a missing file.
    """
    paths = dict[str, Path]()
    for option in options:
        name, equals, text = option.partition("=")
        path = Path(text).expanduser()
        if not equals or not text:
            raise DataError(f"--data {option}: expected NAME=PATH, as in --data aime24=aime24.jsonl")
        if name not in benchmark_names():
            raise DataError(f"--data {option}: no benchmark {name!r}{did_you_mean(name, benchmark_names())}")
        if name in paths:
            raise DataError(f"--data {option}: {name} is given twice; put its files into one folder and give that")
        source = read_benchmark(name).data
        if source.path is None:
            raise DataError(f"--data {option}: the problems of {name} are generated; leave it out")
        if path.is_dir():
            local_files(path, source.files)
        elif path.suffix not in SUFFIXES or not path.is_file():
            raise DataError(f"--data {option}: no such file or folder; expected {' or '.join(SUFFIXES)}, or a folder")
        paths[name] = path
    return paths
