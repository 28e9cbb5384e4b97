r"""Multiple choice: is the letter that a response gives the gold letter? Pure, one pass over the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from archer.errors import DataError
from archer.rewards.base import Response, RunsIn
from archer.rewards.final import boxed_words, said_answer, spoken
from archer.types import Problem, Verdict

_AROUND = " \t\r\n()[]{}*_`$\"'.,:;"


@dataclass(frozen=True)
class ChoiceReward:
    r"""Is the letter of the answer the gold letter?

    The letter is what stands in the last ``\boxed{B}`` (``\boxed{\text{(B)}}`` too), else what follows the last
    "answer is" or "answer:" (``The answer is (B).``, ``**Answer:** B``), after the last ``</think>``. ``gold`` is a
    letter, ``B`` or ``(B)``, or the choice's number from 0. Reasons: ``right``, ``wrong``, ``no_answer``, and
    ``unparsed`` where a box holds no letter.
    """

    rules: ClassVar[int] = 1
    runs_in: ClassVar[RunsIn] = "inline"

    letters: str = "ABCDEFGHIJ"
    """The letters of the choices, in their order."""

    def grade_batch(self, items: Sequence[Response]) -> list[Verdict]:
        """Return one verdict a response. Raises :class:`~archer.errors.DataError` for a gold that is no choice."""
        return [self(item.problem, item.text) for item in items]

    def __call__(self, problem: Problem, text: str) -> Verdict:
        """Judge one response. Raises :class:`~archer.errors.DataError` for a gold that is no choice."""
        gold, shown = self._gold(problem), spoken(text)
        if shown is None:
            return Verdict(0.0, False, "no_answer")
        box = boxed_words(shown)
        letter = self._letter(said_answer(shown) or "" if box is None else box)
        if not letter:
            return Verdict(0.0, False, "no_answer" if box is None or not box.strip(_AROUND) else "unparsed")
        right = letter == gold
        return Verdict(float(right), right, "right" if right else "wrong", letter)

    def _gold(self, problem: Problem) -> str:
        gold = problem.gold
        if isinstance(gold, int) and not isinstance(gold, bool) and 0 <= gold < len(self.letters):
            return self.letters[gold]
        letter = self._letter(gold) if isinstance(gold, str) else ""
        if not letter:
            raise DataError(
                f"problem {problem.id}: gold: expected one of the letters {self.letters}, or a number from 0, "
                f"found {gold!r}"
            )
        return letter

    def _letter(self, text: str) -> str:
        """Return the letter with which a text begins, if no word does; empty without one."""
        rest = text[:200].lstrip(_AROUND)
        letter, after = rest[:1].upper(), rest[1:2]
        return letter if letter and letter in self.letters.upper() and not (after.isalnum() or after == "_") else ""
