"""The last number of a response, as GSM8K is graded (arXiv 2110.14168). Pure, one pass over the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from archer.errors import DataError
from archer.rewards.base import Response, RunsIn
from archer.rewards.final import spoken
from archer.rewards.mathematics.plain import plain_equal, plain_number
from archer.types import Problem, Verdict

_NUMBER = re.compile(r"[0-9][0-9,]*+")  # a whole part; sign and decimals are read beside it
_MARK = "####"
_LONGEST = 100  # characters of a number at most


@dataclass(frozen=True)
class LastNumberReward:
    """Does the last number of the response equal the gold?

    With ``####`` in the text (after the last ``</think>``), the first number after the last of them, else the last
    number: ``1,234.50`` is 1234.5, a sign counts where no digit or letter stands before it, units are ignored. ``gold``
    is a number, or a text in which it is found in the same way (GSM8K's solutions end in ``#### 72``). Values are
    compared exactly. Reasons: ``right``, ``wrong``, ``no_answer``.
    """

    rules: ClassVar[int] = 1
    runs_in: ClassVar[RunsIn] = "inline"

    marked: bool = False
    """Whether only a number after ``####`` counts."""

    def grade_batch(self, items: Sequence[Response]) -> list[Verdict]:
        """Return one verdict a response. Raises :class:`~archer.errors.DataError` for a gold without a number."""
        return [self(item.problem, item.text) for item in items]

    def __call__(self, problem: Problem, text: str) -> Verdict:
        """Judge one response. Raises :class:`~archer.errors.DataError` for a gold without a number."""
        gold = number_of(str(problem.gold))
        if gold is None or not isinstance(problem.gold, str | int | float):
            raise DataError(f"problem {problem.id}: gold: expected a number, found {problem.gold!r}")
        shown = spoken(text)
        answer = None if shown is None or (self.marked and _MARK not in shown) else number_of(shown)
        if answer is None:
            return Verdict(0.0, False, "no_answer")
        right = bool(plain_equal(gold, answer))
        return Verdict(float(right), right, "right" if right else "wrong", answer)


def number_of(text: str) -> str | None:
    """Return the number after the last ``####``, else the last number of a text, without separators of thousands."""
    _, mark, after = text.rpartition(_MARK)
    matches = list(_NUMBER.finditer(after)) if mark else list(_NUMBER.finditer(text))
    if not matches:
        return None
    return _whole(after, matches[0]) if mark else _last(text, matches)


def _last(text: str, matches: Sequence[re.Match[str]]) -> str | None:
    """Return the last number; the digits after its point are a match of their own."""
    last = matches[-1]
    if len(matches) > 1 and text[last.start() - 1] == "." and matches[-2].end() == last.start() - 1:
        last = matches[-2]
    return _whole(text, last)


def _whole(text: str, match: re.Match[str]) -> str | None:
    begin, end = match.span()
    whole = match.group().rstrip(",")
    decimals = _NUMBER.match(text, end + 1) if text[end : end + 1] == "." and whole == match.group() else None
    part = f".{decimals.group().partition(',')[0]}" if decimals else ""
    if begin and text[begin - 1] == "." and not part:  # .5
        whole, begin = f".{whole}", begin - 1
    sign = "-" if begin and text[begin - 1] in "-\u2212" and not _joined(text, begin - 1) else ""
    number = f"{sign}{whole.replace(',', '')}{part}"
    return number if len(number) <= _LONGEST and plain_number(number) is not None else None


def _joined(text: str, minus: int) -> bool:
    """Whether a minus stands between two things, as in 10-5."""
    return minus > 0 and (text[minus - 1].isalnum() or text[minus - 1] in ")]}")
