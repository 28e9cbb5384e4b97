"""The same words: is the answer the gold text, or one of several? Pure, one pass over the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from archer.errors import DataError
from archer.rewards.base import Response, RunsIn
from archer.rewards.final import boxed_words, spoken, squeezed
from archer.types import Problem, Verdict

_LONGEST = 200  # characters of an answer that a verdict keeps


@dataclass(frozen=True)
class ExactReward:
    r"""Is the answer, letter by letter, the gold?

    Spaces count as one, those at the ends as none. ``gold`` is a text, or a list of texts any of which is right. Only
    what follows the last ``</think>`` is read. Reasons: ``right``, ``wrong``, ``no_answer``.
    """

    rules: ClassVar[int] = 1
    runs_in: ClassVar[RunsIn] = "inline"

    find: Literal["box", "line", "all"] = "box"
    """Where the answer stands: in the last ``\\boxed{}``, in the last line that is not empty, or the whole response."""
    ignore_case: bool = True
    """Whether capitals count as small letters."""

    def grade_batch(self, items: Sequence[Response]) -> list[Verdict]:
        """Return one verdict a response. Raises :class:`~archer.errors.DataError` for a gold that is no text."""
        return [self(item.problem, item.text) for item in items]

    def __call__(self, problem: Problem, text: str) -> Verdict:
        """Judge one response. Raises :class:`~archer.errors.DataError` for a gold that is no text."""
        golds = problem.gold if isinstance(problem.gold, list) else [problem.gold]
        if not golds or not all(isinstance(gold, str) for gold in golds):
            raise DataError(f"problem {problem.id}: gold: expected a text or a list of texts, found {problem.gold!r}")
        answer = self._answer(text)
        if not answer:
            return Verdict(0.0, False, "no_answer")
        right = self._plain(answer) in map(self._plain, golds)
        return Verdict(float(right), right, "right" if right else "wrong", answer[:_LONGEST])

    def _answer(self, text: str) -> str | None:
        shown = spoken(text)
        if shown is None or self.find == "all":
            return shown and squeezed(shown)
        if self.find == "box":
            return boxed_words(shown)
        return shown.rstrip().rpartition("\n")[2].strip()

    def _plain(self, text: str) -> str:
        return squeezed(text).casefold() if self.ignore_case else squeezed(text)
