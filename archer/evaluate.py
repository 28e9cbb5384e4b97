"""Evaluation: engine x benchmark -> result. Training curves and tables come from here, never from the reward."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from archer.engines.base import Engine
from archer.exams import Exam
from archer.grading import Grader
from archer.result import Result
from archer.types import Ask, Json

T = TypeVar("T")


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
