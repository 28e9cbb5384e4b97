"""The shapes in which programming problems are published, by name. All pure: a row in, a problem's parts out.

Every function raises :class:`~archer.errors.DataError` naming the key and the value of a malformed row;
none skips a row. :data:`REFERENCES` gives the program that solves a row, where the data set holds one:
such a program must earn 1, so it proves the gold and the sandbox. :func:`kinds` counts a gold's tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from archer.formats import codecontests, humaneval, leetcode, livecodebench, mbpp
from archer.formats.dates import in_window
from archer.formats.shaped import Shaped
from archer.rewards.golds import kinds

__all__ = ["DATES", "FORMATS", "REFERENCES", "Shaped", "in_window", "kinds"]

Row = Mapping[str, Any]

FORMATS: dict[str, Callable[[Row], Shaped]] = {
    "livecodebench": livecodebench.shape,
    "humaneval": humaneval.shape,
    "mbpp": mbpp.shape,
    "codecontests": codecontests.shape,
    "leetcode": leetcode.shape,
}
REFERENCES: dict[str, Callable[[Row], str | None]] = {
    "humaneval": humaneval.reference,
    "mbpp": mbpp.reference,
    "leetcode": leetcode.reference,
}
DATES = {"livecodebench": "contest_date"}  # the column by which a format's rows can be chosen
