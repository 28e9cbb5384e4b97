r"""Grading a boxed mathematical answer: exact for plain numbers, math-verify 0.9 and rules of our own for the rest.

Pure: no process is started and no clock is read here. Algebra may spend minutes and gigabytes on a hostile
answer, so whatever :meth:`MathReward.is_plain` does not vouch for is judged in a worker that can be killed
(``archer.rewards.grading``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from archer.errors import DataError
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

    - The text after the last ``</think>``. A ``<think>`` never closed is a truncated response: no answer. A text with
      neither tag counts whole. Where the prompt's template opens the thought, as DeepSeek-R1's does, the native engine
      begins the text with ``<think>``; ``opened`` says so of texts from elsewhere.
    - The last ``\boxed{...}`` whose braces close; boxes joined by only a comma, "and" or "or" are one list. Without
      a box the reason is ``no_answer``. ``find`` may name, after ``"box"``, ``"latex"`` and ``"expr"``: then a text
      without one, or one that goes on to "final answer is", is searched as math-verify does.

    What is right:

    - The same text, however LaTeX spaces it. Two plain numbers are compared exactly, without rounding; a decimal
      beside a number whose decimals do not end must agree to ``decimals`` places, and relative to its size.
      0.333... and 0.\overline{3} are 1/3.
    - Any equal closed form: 2^{10}+3 for 1027. Not one that leaves the task undone, a sum, product, integral,
      limit, derivative, gcd, remainder or determinant that the gold has not.
      A whole number before a fraction is a mixed number; all else side by side is a product: 2(3) is 6.
    - For which variables it holds is no part of an answer: "for all x", k \in \mathbb{Z} after a comma.
    - A list asks for all its members, in any order. A set is not a tuple, an interval not a set: (1, 2) is neither
      \{1, 2\} nor [1, 2]. For a tuple the bare list 1, 2 will do, in order. A gold that is a JSON list is a list.
    - x = 5 for 5, and 5 for x = 5, not y = 5 for x = 5. In an equation that answers a number every number must be
      the answer: not 6 = 5 for 5. Equations are the same up to a factor, or if they have the same solutions,
      but what is not solved is no answer to a gold that is: 2x = 10 for x = 5.
    - The number for a percentage (28 or 0.28 for 28%), never a percentage for the number: 5% is 0.05.
      A unit may be left out, added or converted, not changed. Degrees may be given in radians,
      with \pi, and radians in degrees, with their sign. 204_7 is a number in base 7, not 204.
    - No answer is hedged: words of doubt, alternatives, ranges and plus-minus are wrong beside a single gold.
    - A gold of words asks for the words, in either case. What cannot be read as a whole is ``unparsed``, as is an
      answer longer than ``longest`` characters; nothing is fished out of it.

    ``same_names=False`` takes any variable for any other; ``relation_for_set=False`` wants a set for a set, not x > 2.
    """

    rules: ClassVar[int] = 2  # to be raised when any verdict changes: results record it, and mix in no table

    right: float = 1.0
    wrong: float = 0.0
    longest: int = 2000
    find: tuple[str, ...] = ("box",)
    opened: bool = False
    decimals: int = 6
    same_names: bool = True
    relation_for_set: bool = True

    def __call__(self, problem: Problem, text: str) -> Verdict:
        """Judge one response, in this process and without a time limit.

        Raises :class:`~archer.errors.DataError` when the problem's gold is not a string or list of strings.
        """
        return self.judge(problem.gold, self.extract(text))

    def extract(self, text: str) -> str | None:
        """Return the part of the response that counts; the verdict depends on nothing else of it."""
        answer = boxed(text, self.opened)
        if len(self.find) > 1 and (answer is None or _FINAL in text[text.rfind(r"\boxed") :]):
            if boxed(text + r"\boxed{0}", self.opened) is None:  # a thought left open
                return None
            return "\n" + text.rpartition("</think>")[2][-self.longest + 1 :]  # no box's content begins with a newline
        return answer

    def is_plain(self, gold: Json, answer: str | None) -> bool:
        """Say whether :meth:`judge` is cheap here: no algebra, no bomb."""
        if answer is None or len(answer) > self.longest:
            return True
        golds = _golds(gold)
        if len(golds) == 1:
            return shortcut(_told(golds[0]), answer) is not None
        parts = members(answer)
        return len(parts) == len(golds) and all(plain_number(item) is not None for item in golds + parts)

    def judge(self, gold: Json, answer: str | None) -> Verdict:
        """Judge an extracted answer; raises as calling does."""
        if answer is None:
            return self.verdict("no_answer")
        if len(answer) > self.longest:
            return self.verdict("unparsed", answer)
        golds = [_told(item) for item in _golds(gold)]
        if len(golds) == 1 and (equal := shortcut(golds[0], answer)) is not None:
            return self.verdict("right" if equal else "wrong", answer)
        return self.verdict(self._reason(golds, answer), answer)

    def _reason(self, golds: list[str], answer: str) -> str:
        from archer.rewards.mathematics.reading import locate

        if answer.startswith("\n"):
            bare = len(answer.split()) < 4 and not _DELIMITERS.search(answer)
            found = (
                answer
                if bare and Matcher(self._scale()).reason(golds[0], answer) == "right"
                else locate(answer, self.find)
            )
            if found is None:
                return "no_answer"
            answer = found
            if "latex" not in self.find:
                golds = [locate(item, self.find) or item for item in golds]
        matcher = Matcher(self._scale())
        return matcher.reason(golds[0], answer) if len(golds) == 1 else matcher.all(golds, answer)

    def _scale(self) -> Scale:
        from archer.rewards.mathematics.equality import Scale

        return Scale(self.decimals, self.same_names, self.relation_for_set)

    def verdict(self, reason: str, answer: str = "") -> Verdict:
        """Price a reason; whoever limits the judging (``timeout``, ``memory``) prices it here too."""
        correct = reason == "right"
        return Verdict(self.right if correct else self.wrong, correct, reason, answer[: self.longest])


def _golds(gold: Json) -> list[str]:
    golds = gold if isinstance(gold, list) else [gold]
    if not golds or not all(isinstance(item, str) and item.strip() for item in golds):
        raise DataError(f"gold: expected a non-empty string or a list of them, found {gold!r}")
    return golds


def _told(gold: str) -> str:
    r"""Return the answer that a gold tells: all of it, or its boxes' content where it is a worked solution."""
    if r"\boxed" not in gold and len(gold) < 200:
        return gold
    from archer.rewards.mathematics.reading import told

    return told(gold)


def load() -> None:
    """Import the algebra and read something (a second: sympy), so that a worker pays before its first answer."""
    import archer.rewards.mathematics.equality  # noqa: F401
    from archer.rewards.mathematics.reading import warm

    warm()
