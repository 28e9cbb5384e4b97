"""Real programs through the code reward: reference solutions, or programs whose verdict is known elsewhere.

A reference solution that does not earn 1 means that the data, the sandbox or the judge is wrong; each is named.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from archer.errors import DataError, did_you_mean
from archer.problems.formats import FORMATS, REFERENCES
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
    """The reason of every program's verdict, one tuple a round, with what the last run of a failed one said."""

    programs: Sequence[ReferenceProgram]
    rounds: tuple[tuple[str, ...], ...]
    details: tuple[str, ...]
    seconds: float

    @property
    def failed(self) -> list[tuple[ReferenceProgram, str, str]]:
        """The programs that were not right in every round, with the reason and what the first round's run said."""
        found = []
        for real, detail, *reasons in zip(self.programs, self.details, *self.rounds, strict=True):
            wrong = [reason for reason in reasons if reason != "right"]
            found += [(real, wrong[0], detail)] if wrong else []
        return found

    @property
    def stable(self) -> int:
        """How many programs had the same verdict in every round."""
        return sum(len(set(reasons)) == 1 for reasons in zip(*self.rounds, strict=True))


def references(form: str, path: Path) -> list[ReferenceProgram]:
    """Return every row with its own solution. Raises DataError for a format or a row that has none."""
    if form not in REFERENCES:
        raise DataError(f"{form}: no format with reference solutions{did_you_mean(form, REFERENCES)}")
    found = []
    for number, (row, problem) in enumerate(rows(form, path), 1):
        program = REFERENCES[form](row)
        if program is None:
            raise DataError(f"{path}: row {number}: has no reference solution; name programs with --programs")
        found.append(ReferenceProgram(problem, program))
    return found


def labelled(form: str, path: Path, programs: Path) -> tuple[list[ReferenceProgram], list[str]]:
    """Return the programs of a JSON-lines file that are labelled right, and the ids that ``path`` does not have.

    Each line has ``question_id`` and ``code``, and ``passes_all_private_tests`` where not all are right.
    Raises DataError for a line without them.
    """
    problems = {problem.id.partition("/")[2]: problem for _, problem in rows(form, path)}
    found, unknown = list[ReferenceProgram](), list[str]()
    for number, row in enumerate(read_json(programs), 1):
        for key in ("question_id", "code"):
            if not isinstance(row.get(key), str):
                raise DataError(f"{programs}: row {number}: {key}: expected a text, found {row.get(key)!r}")
        name = row["question_id"]
        if not row.get("passes_all_private_tests", True):
            continue
        if name in problems:
            found.append(ReferenceProgram(problems[name], row["code"]))
        else:
            unknown.append(name)
    return found, unknown


def rows(form: str, path: Path) -> Iterator[tuple[dict[str, object], Problem]]:
    """Yield the rows of a local file with the problems that they are."""
    if form not in FORMATS:
        raise DataError(f"{form}: no such format{did_you_mean(form, FORMATS)}")
    source = typed(DataSource, {"name": form, "path": str(path), "reward": "code", "format": form}, str(path))
    for number, row in enumerate(read_json(path), 1):
        yield dict(row), to_problem(row, source, number)


def judge_programs(executor: Executor, programs: Sequence[ReferenceProgram], rounds: int = 1) -> JudgedPrograms:
    """Judge every program ``rounds`` times, as a response that holds it would be."""
    reward, begin = CodeReward(), time.perf_counter()
    jobs = [reward.job(real.problem, f"````python\n{real.program}\n````") for real in programs]
    found, details = [], [""] * len(programs)
    for turn in range(rounds):
        reasons = ["no_answer"] * len(programs)
        asked = [index for index, job in enumerate(jobs) if isinstance(job, ProgramJob)]
        for place, outcome in executor.execute(
            [replace(job, keep_runs=True) for job in jobs if isinstance(job, ProgramJob)]
        ):
            index = asked[place]
            reasons[index] = reward.judge(programs[index].problem, outcome).reason
            if not turn:
                last = outcome.runs[-1]
                details[index] = last.detail or f"gave {(last.stdout or repr(last.value))[:200]!r}"
        found.append(tuple(reasons))
    return JudgedPrograms(programs, tuple(found), tuple(details), time.perf_counter() - begin)
