"""A benchmark with its problems: loaded, then checked against what its YAML pins."""

from __future__ import annotations

from dataclasses import dataclass, replace

from archer.benchmark import Benchmark, read_benchmark, verify
from archer.problems import read_problems
from archer.types import Problem


@dataclass(frozen=True)
class Exam:
    """A benchmark with its problems, checked against the count and checksum it pins."""

    benchmark: Benchmark
    problems: tuple[Problem, ...]

    def part(self, problems: int, samples: int) -> Exam:
        """Return the exam cut to its first ``problems`` with ``samples`` each: for curves, not for tables."""
        return Exam(replace(self.benchmark, samples=samples), self.problems[:problems])


def open_exam(name: str, samples: int | None = None) -> Exam:
    """Load a benchmark's problems; ``samples`` overrides its K. Raises DataError when they are not as pinned."""
    benchmark = read_benchmark(name)
    problems = tuple(read_problems(benchmark.data, benchmark.problems))
    verify(benchmark, problems)
    return Exam(replace(benchmark, samples=samples or benchmark.samples), problems)
