r"""Grades a boxed mathematical answer by this project's rules; what is no plain number is read by math-verify 0.9.

Pure: no process is started and no clock is read here. Algebra may spend minutes and gigabytes on a hostile
answer, so every answer that is not :meth:`MathReward.is_plain` is judged in a worker that can be killed
(``archer.rewards.grading``). What finds the answer and tells whether it is plain takes time in proportion to the text:
no expression has repetitions that overlap. Possessive ones (``*+``) are of single characters, as Python before 3.11.5
matches others wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, ClassVar

from archer.errors import ArcherError, DataError
from archer.rewards.base import Response, RunsIn
from archer.rewards.mathematics.answers import boxed, members
from archer.rewards.mathematics.matching import Matcher, shortcut
from archer.rewards.mathematics.plain import plain_equal, plain_number
from archer.types import Json, Problem, Verdict

if TYPE_CHECKING:
    from archer.rewards.mathematics.equality import Scale

_FINAL = "inal answer is"
_DELIMITERS = re.compile(r"\$|\\[(\[]")

__all__ = ["MathReward", "boxed", "load", "plain_equal", "plain_number"]


@dataclass(frozen=True)
class MathReward:
    r"""Is the boxed answer the gold answer?

    What counts as the answer:

    - The text after the last ``</think>``, or all of a text with neither tag. A ``<think>`` that is never closed is a
      truncated response: no answer. Where the chat template opens the thought, as DeepSeek-R1's does, the native
      engine begins the text with ``<think>``; set ``opened`` for such texts from elsewhere.
    - The last ``\boxed{...}`` whose braces close; boxes joined by only a comma, "and" or "or" are one list. Without
      a box the reason is ``no_answer``. With ``"latex"`` or ``"expr"`` in ``find``, a text without a box, or one that
      goes on to "final answer is", is searched as math-verify does.

    What is right:

    - The same text, however LaTeX spaces it. Two plain numbers are compared exactly, without rounding; a decimal
      beside a number whose decimals do not end must agree to ``decimals`` places, and relative to its size.
      0.333... and 0.\overline{3} are 1/3.
    - Any equal closed form: 2^{10}+3 for 1027. Not an unfinished one, with a sum, product, integral, limit,
      derivative, gcd, remainder or determinant that the gold does not have.
      A whole number before a fraction is a mixed number; any other juxtaposition is a product: 2(3) is 6.
      A value must show itself before it is compared, between proven bounds: what may be 0/0 or infinite, or is too
      close to zero to tell and not zero by algebra, is ``unparsed``.
    - Qualifiers of variables are ignored: "for all x", k \in \mathbb{Z} after a comma.
    - All members of a list, in any order. A set is not a tuple, an interval not a set: (1, 2) is neither \{1, 2\} nor
      [1, 2]. The bare list 1, 2 may stand for a tuple, in order. A gold that is a JSON list is a list.
    - x = 5 for 5, and 5 for x = 5, but not y = 5 for x = 5. In an equation that answers a number, every number must
      equal the gold: 6 = 5 is wrong for 5. Equations are equal up to a factor, or if they have the same solutions,
      but an unsolved equation or inequality is wrong for a solved gold: 2x = 10 for x = 5, x^2 < 4 for (-2, 2).
    - The number for a percentage (28 or 0.28 for 28%), but not a percentage for the number: 5% is 0.05.
      A unit may be left out, added or converted, but not changed. Degrees may be given in radians,
      with \pi, and radians in degrees, with their sign. 204_7 is a number in base 7, not 204.
    - No hedging: words of doubt, alternatives, ranges and plus-minus are wrong for a single gold.
    - The same words for a gold of words, in either case.

    An answer that cannot be read as a whole is ``unparsed``, as is one of more than ``longest`` characters.
    """

    rules: ClassVar[int] = 3  # to be raised when any verdict changes: results record it, and mix in no table

    runs_in: ClassVar[RunsIn] = "worker"

    right: float = 1.0
    """Reward for a right answer."""
    wrong: float = 0.0
    """Reward for any other response."""
    longest: int = 2000
    """Characters of an answer at most."""
    find: tuple[str, ...] = ("box",)
    """Where to look for the answer: ``"box"``, and after it ``"latex"`` and ``"expr"``."""
    opened: bool = False
    """Whether the prompt ends with an open ``<think>`` that the text does not repeat."""
    decimals: int = 6
    """Decimal places to which a decimal must agree with a number whose decimals do not end."""
    same_names: bool = True
    """Whether variables must have the gold's names."""
    relation_for_set: bool = True
    """Whether a relation, such as x > 2, may stand for a set."""

    def __call__(self, problem: Problem, text: str) -> Verdict:
        """Judge one response, in this process and without a time limit.

        Raises :class:`~archer.errors.DataError` when the problem's gold is not a string or list of strings.
        """
        return self.judge(problem.gold, self.extract(text))

    def grade_batch(self, items: Sequence[Response]) -> list[Verdict]:
        """Judge responses as calling it does; the grader itself judges equal answers once, and in workers."""
        return [self(item.problem, item.text) for item in items]

    def extract(self, text: str) -> str | None:
        """Return the part of the response that decides the verdict, None if it holds no answer."""
        answer = boxed(text, self.opened)
        if len(self.find) > 1 and (answer is None or _FINAL in text[text.rfind(r"\boxed") :]):
            if boxed(text + r"\boxed{0}", self.opened) is None:  # a thought left open
                return None
            return "\n" + text.rpartition("</think>")[2][-self.longest + 1 :]  # no box's content begins with a newline
        return answer

    def is_plain(self, gold: Json, answer: str | None) -> bool:
        """Return whether :meth:`judge` is cheap and safe in this process, as it needs no algebra."""
        if answer is None or len(answer) > self.longest:
            return True
        golds = _golds(gold)
        if len(golds) == 1:
            return shortcut(_gold_answer(golds[0]), answer) is not None
        parts = members(answer)
        return len(parts) == len(golds) and all(plain_equal(*pair) is not None for pair in product(golds, parts))

    def judge(self, gold: Json, answer: str | None) -> Verdict:
        """Judge an extracted answer. Raises as calling does."""
        if answer is None:
            return self.verdict("no_answer")
        if len(answer) > self.longest:
            return self.verdict("unparsed", answer)
        golds = [_gold_answer(item) for item in _golds(gold)]
        if len(golds) == 1 and (equal := shortcut(golds[0], answer)) is not None:
            return self.verdict("right" if equal else "wrong", answer)
        try:
            return self.verdict(self._reason(golds, answer), answer)
        except (ArcherError, MemoryError):
            raise
        except Exception:  # RecursionError and many more, as the answer chooses: none may end a run
            return self.verdict("unparsed", answer)

    def _reason(self, golds: list[str], answer: str) -> str:
        from archer.rewards.mathematics.reading import locate

        if answer.startswith("\n"):
            bare = len(answer.split()) < 4 and not _DELIMITERS.search(answer)
            located = (
                answer
                if bare and Matcher(self._scale()).reason(golds[0], answer) == "right"
                else locate(answer, self.find)
            )
            if located is None:
                return "no_answer"
            answer = located
            if "latex" not in self.find:
                golds = [locate(item, self.find) or item for item in golds]
        matcher = Matcher(self._scale())
        return matcher.reason(golds[0], answer) if len(golds) == 1 else matcher.all(golds, answer)

    def _scale(self) -> Scale:
        from archer.rewards.mathematics.equality import Scale

        return Scale(self.decimals, self.same_names, self.relation_for_set)

    def verdict(self, reason: str, answer: str = "") -> Verdict:
        """Return the verdict for a reason, which may be one of the grader's (``timeout``, ``memory``)."""
        correct = reason == "right"
        return Verdict(self.right if correct else self.wrong, correct, reason, answer[: self.longest])


def _golds(gold: Json) -> list[str]:
    golds = gold if isinstance(gold, list) else [gold]
    if not golds or not all(isinstance(item, str) and item.strip() for item in golds):
        raise DataError(f"gold: expected a non-empty string or a list of them, found {gold!r}")
    return golds


def _gold_answer(gold: str) -> str:
    r"""Return a gold's answer: all of it, or its boxes' content if it is a worked solution."""
    if r"\boxed" not in gold and len(gold) < 200:
        return gold
    from archer.rewards.mathematics.reading import told

    return told(gold)


def load() -> None:
    """Import sympy and warm the parser (about a second), so that a worker does so before its first answer."""
    import archer.rewards.mathematics.equality  # noqa: F401
    from archer.rewards.mathematics.reading import warm

    warm()
