"""Evaluation: engine x benchmark -> result. Training curves and tables come from here, never from the reward."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from archer.benchmark import Benchmark, read_benchmark, verify
from archer.engines.base import Engine
from archer.grading import Grader
from archer.problems import read_problems
from archer.result import Result
from archer.types import Ask, Json, Problem

T = TypeVar("T")


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


@dataclass(frozen=True)
class Examinee:
    """Who is examined: a table's row, the training seed, the steps behind the weights, and their origin."""

    label: str
    seed: int
    step: int
    provenance: Mapping[str, Json]


def evaluate(engine: Engine, grader: Grader, exam: Exam, who: Examinee) -> Result:
    """Draw K samples of every problem, grade them, return all outcomes.

    The samples' random streams depend on the training seed, so seeds differ in their draws too, and two
    algorithms with one seed share them. Raises EngineError, SandboxError and GraderError: never a score.
    """
    start = time.perf_counter()
    benchmark = exam.benchmark
    samples = tuple(range(benchmark.samples))
    started = grader.begin()
    asks = [Ask(problem, samples, who.seed) for problem in exam.problems]
    rollouts = engine.generate(asks, benchmark.sampling, started.put)
    verdicts = grader.grade(rollouts, started)
    return Result(
        label=who.label, seed=who.seed, step=who.step, benchmark=benchmark.name, sha256=benchmark.sha256,
        sampling=benchmark.sampling, problems=tuple(problem.id for problem in exam.problems),
        outcomes=by_problem([verdict.correct for verdict in verdicts], benchmark.samples),
        reasons=by_problem([verdict.reason for verdict in verdicts], benchmark.samples),
        stops=by_problem([rollout.stop for rollout in rollouts], benchmark.samples),
        tokens=by_problem([len(rollout.tokens) for rollout in rollouts], benchmark.samples),
        seconds=time.perf_counter() - start, provenance=who.provenance,
    )  # fmt: skip


def by_problem(flat: Sequence[T], samples: int) -> tuple[tuple[T, ...], ...]:
    """Cut a flat list of samples into one tuple a problem."""
    return tuple(tuple(flat[start : start + samples]) for start in range(0, len(flat), samples))
