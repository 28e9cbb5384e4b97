"""lab-arithmetic: sums of two numbers by one of three written methods, of which one is right.

The training text names a method and carries it out: columns with carry (right), columns without carry
(right only if nothing carries) or a guess. Reinforcement learning has to find and keep the first.
Answers have up to six digits, so that dropping the written work does not pay.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from archer.problems.lab.splits import draw
from archer.types import Problem


@dataclass(frozen=True)
class ArithmeticTask:
    """``a+b`` with both numbers of ``low_digits`` to ``high_digits`` digits."""

    low_digits: int = 2
    high_digits: int = 5
    carry: float = 0.3
    """Share of training texts by the right method; what ``carry`` and ``columns`` leave are guesses."""
    columns: float = 0.5
    """Share of training texts by the method without carry."""
    noise: float = 0.01
    """Share of columns whose digit is written wrong."""

    name = "lab-arithmetic"

    def problem(self, split: str, index: int) -> Problem:
        """Return problem ``index`` of ``split``, "train" or "test", which share no ``a+b`` (``b+a`` is another)."""
        key = draw(self.name, split, index, self._sum)
        first, second = map(int, key.split("+"))
        return Problem(f"{self.name}/{split}/{index}", self.name, key, "math", str(first + second))

    def _sum(self, rng: Random) -> str:
        return f"{self._number(rng)}+{self._number(rng)}"

    def _number(self, rng: Random) -> int:
        digits = rng.randint(self.low_digits, self.high_digits)
        return rng.randrange(10 ** (digits - 1), 10**digits)

    def text(self, problem: Problem, rng: Random) -> str:
        """Return one training response: right, wrong or noisy, by the shares."""
        first, second = map(int, problem.prompt.split("+"))
        method = rng.choices(["carry", "columns", "guess"], [self.carry, self.columns, 1 - self.carry - self.columns])[
            0
        ]
        if method == "guess":
            return f"guess\n\\boxed{{{self._guess(first + second, rng)}}}"
        lines, answer = self._work(first, second, rng, carrying=method == "carry")
        return "\n".join([method, *lines, f"\\boxed{{{answer}}}"])

    def _work(self, first: int, second: int, rng: Random, *, carrying: bool) -> tuple[list[str], str]:
        width = max(len(str(first)), len(str(second)))
        lines, answer, carry = [], "", 0
        for place in range(width):
            a, b = first // 10**place % 10, second // 10**place % 10
            total = a + b + carry if carrying else (a + b) % 10
            if rng.random() < self.noise:
                total = total // 10 * 10 + rng.randrange(10)
            lines.append(f"{a}+{b}" + ("+1" if carry else "") + f"={total}")
            answer = f"{total % 10}{answer}"
            carry = total // 10
        return lines, f"1{answer}" if carry else answer

    def _guess(self, total: int, rng: Random) -> int:
        """Return a number that mostly has the right first digit, as a glance gives."""
        spread = 10 ** (len(str(total)) - 1)
        guess: int = total // spread * spread + rng.randrange(spread)
        return guess
