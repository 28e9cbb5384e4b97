"""Validate a benchmark: its rows match its pins, and every gold answer is graded right.

A mathematics gold is boxed and graded like a response; a programming problem's own solution runs in the sandbox. Each
failing row is named; the YAML lists known failures with their reasons.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from archer.errors import DataError
from archer.evaluation.benchmark import Benchmark, faults, fingerprint
from archer.evaluation.loaded import located
from archer.evaluation.reference_programs import ReferenceProgram, judge_programs
from archer.problems.formats import REFERENCES
from archer.problems.lab import TASKS
from archer.problems.streams import kept_rows, read_problems
from archer.rewards.grading import Grader
from archer.sandbox.base import Executor
from archer.types import Problem, Rollout

# The lab's tasks write pretraining texts, errors included; with these values they write correct solutions only.
SOLVING: Mapping[str, Mapping[str, float]] = {
    "lab-arithmetic": {"carry": 1.0, "columns": 0.0, "noise": 0.0},
    "lab-countdown": {"glance": 0.0, "search": 1.0, "noise": 0.0},
    "lab-code": {"rule": 1.0, "table": 0.0},
}
Failing = tuple[str, str]  # a problem's id, and why
Open = Callable[[], Executor]


@dataclass(frozen=True)
class Validation:
    """The result of a validation. ``graded`` counts the golds that were graded, of ``problems``; 0 if none can be."""

    benchmark: Benchmark
    problems: int
    sha256: str
    faults: tuple[str, ...]
    graded: int
    failing: tuple[Failing, ...]
    seconds: float

    @property
    def known(self) -> list[tuple[str, str, str]]:
        """The golds that fail as the YAML lists: id, why, and the YAML's reason."""
        known = self.benchmark.known
        return [(name, why, known[name]) for name, why in self.failing if name in known]

    @property
    def unexpected(self) -> list[str]:
        """Failures that the YAML does not list, and golds that it lists but that are graded right."""
        failing = dict(self.failing)
        lines = [f"{name}: {why}" for name, why in self.failing if name not in self.benchmark.known]
        if self.graded:
            better = [name for name in self.benchmark.known if name not in failing]
            lines += [f"{name}: its gold is graded right; take it out of `known`" for name in better]
        return lines

    @property
    def lacking(self) -> list[str]:
        """What could not be validated: a checksum that is not pinned, golds that were not graded."""
        lines = [] if self.benchmark.sha256 else ["no checksum is pinned"]
        untried = self.problems - self.graded
        how = "no gold was tried" if not self.graded else f"{untried} golds were not tried"
        return [*lines, f"{how}: the data set has no reference program"] if untried else lines

    @property
    def ok(self) -> bool:
        """Whether everything was validated and nothing is wrong."""
        return not self.faults and not self.unexpected and not self.lacking


def validate(name: str, data: Mapping[str, Path] | None, grader: Grader, executor: Open) -> Validation:
    """Load a benchmark and grade every gold; rows that are not as pinned are graded too, and reported in ``faults``.

    ``executor`` opens the sandbox and is called only if programs run. Raises DataError for rows that cannot be read.
    """
    benchmark = located(name, data)
    problems = read_problems(benchmark.data, benchmark.problems)
    begin = time.perf_counter()
    graded, failing = _golds(benchmark, problems, grader, executor)
    seconds = time.perf_counter() - begin
    reasons = tuple(faults(benchmark, problems))
    return Validation(benchmark, len(problems), fingerprint(problems), reasons, graded, tuple(failing), seconds)


def _golds(
    benchmark: Benchmark, problems: Sequence[Problem], grader: Grader, executor: Open
) -> tuple[int, list[Failing]]:
    """Grade the golds that can be graded; return how many, and those that failed."""
    source = benchmark.data
    if source.path is None:
        task = replace(TASKS[source.name], **SOLVING[source.name])  # type: ignore[arg-type]
        texts = [task.text(problem, Random(problem.id)) for problem in problems]
        return _solved(problems, texts, grader, executor)
    if source.reward == "math":
        return len(problems), answered(problems, [_boxed(problem) for problem in problems], grader)
    if source.format not in REFERENCES:
        return 0, []
    programs = [REFERENCES[source.format](row) for _, row in kept_rows(source)]
    pairs = zip(problems, programs, strict=True)
    references = [ReferenceProgram(problem, program) for problem, program in pairs if program is not None]
    return len(references), _run(references, executor)


def _boxed(problem: Problem) -> str:
    golds = problem.gold if isinstance(problem.gold, list) else [problem.gold]
    return f"\\boxed{{{', '.join(map(str, golds))}}}"


def _solved(
    problems: Sequence[Problem], texts: Sequence[str], grader: Grader, executor: Open
) -> tuple[int, list[Failing]]:
    """Grade the lab's own solutions."""
    if problems[0].reward == "code":
        programs = [text.partition("```python\n")[2].rpartition("```")[0] for text in texts]
        return len(problems), _run([ReferenceProgram(*pair) for pair in zip(problems, programs, strict=True)], executor)
    return len(problems), answered(problems, texts, grader)


def _run(programs: Sequence[ReferenceProgram], executor: Open) -> list[Failing]:
    judged = judge_programs(executor(), programs)
    return [(program.problem.id, f"{reason}: {detail}") for program, reason, detail in judged.failed]


def answered(problems: Sequence[Problem], texts: Sequence[str], grader: Grader) -> list[Failing]:
    """Grade one text per problem; return the problems not graded right, with golds that cannot be read among them."""
    rollouts = [Rollout.of_text(problem, text) for problem, text in zip(problems, texts, strict=True)]
    try:
        reasons = [verdict.reason for verdict in grader.grade(rollouts)]
    except DataError:  # one unreadable gold fails the whole batch: grade one by one
        reasons = [_reason(rollout, grader) for rollout in rollouts]
    pairs = zip(rollouts, reasons, strict=True)
    return [(rollout.problem.id, f"{reason}: {rollout.text[:200]!r}") for rollout, reason in pairs if reason != "right"]


def _reason(rollout: Rollout, grader: Grader) -> str:
    try:
        [verdict] = grader.grade([rollout])
    except DataError as error:
        return str(error)
    return verdict.reason
