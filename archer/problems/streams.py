"""Turns data sets into problems: the lab's generators, or rows of files and of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from archer.errors import DataError, UserError, did_you_mean, raised
from archer.problems.formats import DATES, JUDGED_BY, ORDERS, SPLITS, ShapedRow, find_format, in_window
from archer.problems.lab import TASKS
from archer.problems.rows import is_local, read_rows
from archer.recipe.rewards import first_reward
from archer.recipe.sections import DataSource
from archer.rewards import find_reward, runs_programs
from archer.rewards.golds import check_gold
from archer.types import Problem

DRAWS = 1000  # per problem wanted, before giving up
ProblemAt = Callable[[int], Problem]


@dataclass(frozen=True)
class ProblemStream:
    """An endless sequence of training problems: position -> problem, a pure function of the seed.

    A cycle takes ``weight`` problems of each source in turn, so every step mixes the sources evenly.
    """

    cycle: tuple[int, ...]
    sources: tuple[ProblemAt, ...]

    def take(self, position: int, count: int) -> list[Problem]:
        """Return the ``count`` problems from ``position`` on."""
        return [self._at(index) for index in range(position, position + count)]

    def _at(self, index: int) -> Problem:
        cycles, offset = divmod(index, len(self.cycle))
        source = self.cycle[offset]
        return self.sources[source](cycles * self.cycle.count(source) + self.cycle[:offset].count(source))


def open_stream(sources: Sequence[DataSource], seed: int) -> ProblemStream:
    """Open every source of a recipe. Raises DataError for one that is missing, empty or malformed."""
    cycle = tuple(index for index, source in enumerate(sources) for _ in range(source.weight))
    if not cycle:
        raise DataError("data: every source has weight 0")
    return ProblemStream(cycle, tuple(open_source(source, seed) for source in sources))


def open_source(source: DataSource, seed: int) -> ProblemAt:
    """Return position -> problem for one source, its rows reshuffled every epoch. Raises DataError."""
    if source.path is None:
        if source.name not in TASKS:
            raise DataError(
                f"data: {source.name!r} is no lab task{did_you_mean(source.name, TASKS)}; "
                "give `path` for a file of your own"
            )
        task = TASKS[source.name]
        if source.split not in ("train", "test"):
            raise DataError(f"data: {source.name}: split: expected train or test, found {source.split!r}")

        def drawn(index: int) -> Problem:
            # The seed moves the window, so that two seeds train on different problems.
            problem = task.problem(source.split, seed * 1_000_000 + index)
            return problem if source.reward == DataSource.reward else replace(problem, reward=source.reward)

        check_reward(source)
        return drawn
    problems = _problems(source)

    def at(index: int) -> Problem:
        epoch, offset = divmod(index, len(problems))
        return problems[int(np.random.default_rng([seed, epoch]).permutation(len(problems))[offset])]

    return at


def check_reward(source: DataSource) -> None:
    """Refuse a reward or an option of one that does not exist. Raises UserError naming the source."""
    try:
        find_reward(source.reward)
    except UserError as error:
        raise type(error)(f"data: {source.name}: {error}") from error


def reward_of(source: DataSource) -> str:
    """Return the name of the reward that grades a source's problems."""
    return source.reward if source.path else open_source(source, seed=0)(0).reward


def judges_programs(source: DataSource) -> bool:
    """Whether the source's reward runs programs."""
    return runs_programs(reward_of(source))


def read_problems(source: DataSource, most: int) -> list[Problem]:
    """Return every row of a file or data set, in its order, or the first ``most`` different lab problems.

    Raises DataError if the lab has fewer.
    """
    if source.path is not None:
        return _problems(source)
    at, known = open_source(source, seed=0), dict[str, Problem]()
    for number in range(DRAWS * most):
        problem = at(number)
        known.setdefault(problem.prompt, problem)
        if len(known) == most:
            return list(known.values())
    raise DataError(f"{source.name}: {DRAWS * most} draws gave only {len(known)} different problems, not {most}")


def _problems(source: DataSource) -> list[Problem]:
    check_reward(source)
    rows = kept_rows(source)
    problems = [to_problem(row, source, number) for number, row in rows]
    if source.format not in ORDERS:
        return problems
    keys = [ORDERS[source.format](row) for _, row in rows]
    if any(key is None for key in keys):
        return problems
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return [replace(problems[index], id=f"{source.name}/{number}") for number, index in enumerate(order, 1)]


def kept_rows(source: DataSource) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the rows that become problems, with their numbers in the file. Raises DataError if there are none."""
    _check_format(source)
    rows = [(number, row) for number, row in enumerate(read_rows(source), 1) if _is_kept(row, source, number)]
    if not rows:
        window = f" in [{source.since}, {source.until})" if source.since or source.until else ""
        raise DataError(f"{source.path}: no rows{window}")
    return rows


def _check_format(source: DataSource) -> None:
    """Raise DataError if the format's name, the dates and the reward do not fit each other."""
    try:
        _ = source.format and find_format(source.format)
    except UserError as error:
        raise DataError(f"{source.path}: format: {error}") from error
    judge, named = JUDGED_BY.get(source.format, ""), first_reward(source.reward)
    if judge and named != judge and named in (*JUDGED_BY.values(), "countdown"):  # others may read any gold
        raise DataError(
            f"{source.path}: format {source.format} gives golds for the reward {judge}; set reward to {judge} "
            f"(found {named!r})"
        )
    if (source.since or source.until) and source.format not in DATES:
        raise DataError(
            f"{source.path}: since and until choose rows by date, which format {source.format!r} does not have; "
            f"leave them out (formats with dates: {', '.join(DATES)})"
        )


def _is_kept(row: Mapping[str, Any], source: DataSource, number: int) -> bool:
    """Return whether a row is in the source's split and window of days."""
    if not isinstance(row, Mapping):
        return True  # malformed rows are reported by to_problem()
    try:
        if source.format in SPLITS and is_local(source) and not SPLITS[source.format](row, source.split):
            return False
        dated = source.since or source.until
        return not dated or in_window(row, DATES[source.format], source.since, source.until)
    except DataError as error:
        raise DataError(f"{source.path}: row {number}: {error}") from error


def to_problem(row: Mapping[str, Any], source: DataSource, number: int) -> Problem:
    """Return row ``number`` as a problem. Raises DataError naming the file, the row and the column."""
    if not isinstance(row, Mapping):
        raise DataError(f"{source.path}: row {number}: expected columns and values, found {row!r}")
    problem = _shaped(row, source, number) if source.format else _plain(row, source, number)
    if first_reward(source.reward) == "code":
        try:
            check_gold(problem.gold)
        except DataError as error:
            raise DataError(f"{source.path}: row {number}: {error}") from error
    return problem


def _plain(row: Mapping[str, Any], source: DataSource, number: int) -> Problem:
    for column in (source.prompt, source.gold):
        if column not in row:
            raise DataError(f"{source.path}: row {number}: no column {column!r}{did_you_mean(column, row)}")
    prompt = source.instruction.replace("{prompt}", str(row[source.prompt]))
    gold = row[source.gold]
    return Problem(f"{source.name}/{number}", source.name, prompt, source.reward, gold)


def _shaped(row: Mapping[str, Any], source: DataSource, number: int) -> Problem:
    try:
        parts = find_format(source.format)(row)
    except DataError as error:
        raise DataError(f"{source.path}: row {number}: {error}") from error
    except Exception as error:  # whatever a format of one's own raises
        raise DataError(f"{source.path}: row {number}: format {source.format} raised {raised(error)}") from error
    if not isinstance(parts, ShapedRow):
        raise DataError(f"{source.path}: row {number}: format {source.format} gave {parts!r:.80}, expected a ShapedRow")
    prompt = source.instruction.replace("{prompt}", parts.prompt)
    name = f"{source.name}/{parts.id or number}"
    return Problem(name, source.name, prompt, source.reward, parts.gold, parts.system, parts.meta)
