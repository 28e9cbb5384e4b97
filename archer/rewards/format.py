"""The form of a response: think tags, or a regular expression. It says nothing about the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from archer.errors import RecipeError
from archer.rewards.base import Response, RunsIn
from archer.types import Verdict


@dataclass(frozen=True)
class FormatReward:
    """Has the response the wanted form?

    Without a ``pattern``: it begins with ``<think>``, has one ``</think>`` and no other tag of the two, and something
    other than space follows. With one: the regular expression finds the form somewhere in the response (``whole``: all
    of it has the form); ``.`` matches line ends too. A pattern may take for ever on a hostile text, so it is tried in a
    worker that is killed after ``reward.seconds`` of CPU time: reason ``timeout``. Other reasons: ``right``,
    ``malformed``, and ``no_answer`` for an empty response.
    """

    rules: ClassVar[int] = 1

    pattern: str = ""
    """A regular expression, as Python's ``re`` reads it; empty: the think tags."""
    whole: bool = False
    """Whether the pattern describes the whole response, from its first character to its last."""
    opened: bool = False
    """Whether the prompt ends with an open ``<think>`` that the text does not repeat."""

    def __post_init__(self) -> None:
        try:
            _compiled(self.pattern)
        except re.error as error:
            raise RecipeError(f"reward: format: pattern: {self.pattern!r} is no regular expression: {error}") from error

    @property
    def runs_in(self) -> RunsIn:
        """A worker where there is a pattern."""
        return "worker" if self.pattern else "inline"

    def grade_batch(self, items: Sequence[Response]) -> list[Verdict]:
        """Return one verdict a response."""
        return [self._verdict(item.text) for item in items]

    def _verdict(self, text: str) -> Verdict:
        if not text.strip():
            return Verdict(0.0, False, "no_answer")
        right = self._matches(text) if self.pattern else thinks(text, self.opened)
        return Verdict(float(right), right, "right" if right else "malformed")

    def _matches(self, text: str) -> bool:
        pattern = _compiled(self.pattern)
        return (pattern.fullmatch(text) if self.whole else pattern.search(text)) is not None


def thinks(text: str, opened: bool = False) -> bool:
    """Whether a text is one closed thought and an answer after it."""
    if opened and not text.lstrip().startswith("<think>"):
        text = f"<think>{text}"
    thought, closed, answer = text.partition("</think>")
    tags = thought.count("<think>") == 1 and "<think>" not in answer and "</think>" not in answer
    return bool(closed) and tags and thought.lstrip().startswith("<think>") and bool(answer.strip())


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)
