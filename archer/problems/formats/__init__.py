"""The formats in which problems are published, by name: pure functions from a row to a problem's parts.

A format of one's own is named as ``module:NAME`` or ``./file.py:NAME``.
Every function raises :class:`~archer.errors.DataError` naming the key and the value of a malformed row; none skips a
row. :data:`REFERENCES` gives the program that solves a row, if the data set holds one: such a program must earn 1, so
it proves the gold and the sandbox. :func:`kinds` counts a gold's tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from archer.parts import find_part
from archer.problems.formats import (
    codecontests,
    evalplus,
    humaneval,
    leetcode,
    livecodebench,
    mathematics,
    mbpp,
    olympiadbench,
    released,
)
from archer.problems.formats.dates import in_window
from archer.problems.formats.shaped import ShapedRow
from archer.rewards.golds import kinds

__all__ = [
    "DATES", "FORMATS", "JUDGED_BY", "ORDERS", "REFERENCES", "SPLITS", "ShapedRow", "find_format", "in_window", "kinds",
]  # fmt: skip

Row = Mapping[str, Any]

PROGRAMS: dict[str, Callable[[Row], ShapedRow]] = {
    "livecodebench": livecodebench.shape,
    "humaneval": humaneval.shape,
    "humanevalplus": evalplus.humanevalplus,
    "mbpp": mbpp.shape,
    "mbppplus": evalplus.mbppplus,
    "codecontests": codecontests.shape,
    "leetcode": leetcode.shape,
    "archer": released.shape,
}
MATHEMATICS: dict[str, Callable[[Row], ShapedRow]] = {
    "aime": mathematics.aime,
    "amc": mathematics.amc,
    "math500": mathematics.math500,
    "minerva": mathematics.minerva,
    "olympiadbench": olympiadbench.shape,
    "gsm8k": mathematics.gsm8k,
}
FORMATS: dict[str, Callable[[Row], ShapedRow]] = {**PROGRAMS, **MATHEMATICS}
JUDGED_BY = {**dict.fromkeys(PROGRAMS, "code"), **dict.fromkeys(MATHEMATICS, "math")}  # the reward of its golds
REFERENCES: dict[str, Callable[[Row], str | None]] = {
    "humaneval": humaneval.reference,
    "humanevalplus": humaneval.reference,
    "mbpp": mbpp.reference,
    "mbppplus": mbpp.reference,
    "leetcode": leetcode.reference,
}
DATES = {"livecodebench": "contest_date"}  # the column by which a format's rows can be chosen
# The key by which rows without names are ordered and numbered; None keeps the file's order.
ORDERS: dict[str, Callable[[Row], Any]] = {"aime": mathematics.aime_order, "minerva": mathematics.minerva_order}
SPLITS = {"mbpp": mbpp.in_split}  # whether a row of a file with all splits is in a given split


def find_format(name: str) -> Callable[[Row], ShapedRow]:
    """Return the format of that name. Raises UserError where there is none."""
    return find_part("formats", name, FORMATS)
