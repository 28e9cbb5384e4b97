"""Judge programs by the code reward: reference solutions, or programs whose verdict is known from elsewhere.

A reference solution that does not earn 1 shows that the data, the sandbox or the judge is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from archer.errors import DataError, did_you_mean
from archer.problems.formats import REFERENCES, find_format
from archer.problems.rows import read_json
from archer.problems.streams import to_problem
from archer.recipe.config import typed
from archer.recipe.sections import DataSource
from archer.rewards.code import CodeReward
from archer.sandbox.base import Executor, ProgramJob
from archer.types import Problem


@dataclass(frozen=True)
class ReferenceProgram:
    """A problem and a program that solves it."""

    problem: Problem
    program: str


@dataclass(frozen=True)
class JudgedPrograms:
    """The verdicts of programs: ``rounds`` has a tuple of reasons, one a program, for each round.

    ``details`` tells how the last test of each program ended in the first round.
    """

    programs: Sequence[ReferenceProgram]
    rounds: tuple[tuple[str, ...], ...]
    details: tuple[str, ...]
    seconds: float

    @property
    def failed(self) -> list[tuple[ReferenceProgram, str, str]]:
        """The programs not right in every round, each with its first other reason and its detail."""
        failed = []
        for program, detail, *reasons in zip(self.programs, self.details, *self.rounds, strict=True):
            wrong = [reason for reason in reasons if reason != "right"]
            failed += [(program, wrong[0], detail)] if wrong else []
        return failed

    @property
    def stable(self) -> int:
        """The number of programs with the same verdict in every round."""
        return sum(len(set(reasons)) == 1 for reasons in zip(*self.rounds, strict=True))


def references(form: str, path: Path) -> list[ReferenceProgram]:
    """Return every row's problem with its reference solution. Raises DataError for a format or row without one."""
    if form not in REFERENCES:
        raise DataError(f"{form}: no format with reference solutions{did_you_mean(form, REFERENCES)}")
    programs = []
    for number, (row, problem) in enumerate(rows(form, path), 1):
        program = REFERENCES[form](row)
        if program is None:
            raise DataError(f"{path}: row {number}: has no reference solution; name programs with --programs")
        programs.append(ReferenceProgram(problem, program))
    return programs


def labelled(form: str, path: Path, programs: Path) -> tuple[list[ReferenceProgram], list[str]]:
    """Return the programs of a JSON-lines file that are labelled right, and the ids that ``path`` does not have.

    Each line has ``question_id``, ``code`` and optionally ``passes_all_private_tests`` (default true). Raises DataError
    for a line without the first two.
    """
    problems = {problem.id.partition("/")[2]: problem for _, problem in rows(form, path)}
    right, unknown = list[ReferenceProgram](), list[str]()
    for number, row in enumerate(read_json(programs), 1):
        for key in ("question_id", "code"):
            if not isinstance(row.get(key), str):
                raise DataError(f"{programs}: row {number}: {key}: expected a text, found {row.get(key)!r}")
        name = row["question_id"]
        if not row.get("passes_all_private_tests", True):
            continue
        if name in problems:
            right.append(ReferenceProgram(problems[name], row["code"]))
        else:
            unknown.append(name)
    return right, unknown


def rows(form: str, path: Path) -> Iterator[tuple[dict[str, object], Problem]]:
    """Yield the rows of a local file, each with its problem. Raises UserError for an unknown format."""
    find_format(form)
    source = typed(DataSource, {"name": form, "path": str(path), "reward": "code", "format": form}, str(path))
    for number, row in enumerate(read_json(path), 1):
        yield dict(row), to_problem(row, source, number)


def judge_programs(executor: Executor, programs: Sequence[ReferenceProgram], rounds: int = 1) -> JudgedPrograms:
    """Judge every program ``rounds`` times, each as the code block of a response."""
    reward, begin = CodeReward(), time.perf_counter()
    jobs = [reward.job(program.problem, f"````python\n{program.program}\n````") for program in programs]
    reasons_by_round, details = [], [""] * len(programs)
    for round_number in range(rounds):
        reasons = ["no_answer"] * len(programs)
        indices = [index for index, job in enumerate(jobs) if isinstance(job, ProgramJob)]
        for position, outcome in executor.execute(
            [replace(job, keep_runs=True) for job in jobs if isinstance(job, ProgramJob)]
        ):
            index = indices[position]
            reasons[index] = reward.judge(programs[index].problem, outcome).reason
            if not round_number:
                last = outcome.runs[-1]
                details[index] = last.detail or f"gave {(last.stdout or repr(last.value))[:200]!r}"
        reasons_by_round.append(tuple(reasons))
    return JudgedPrograms(programs, tuple(reasons_by_round), tuple(details), time.perf_counter() - begin)
