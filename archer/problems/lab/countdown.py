"""lab-countdown: put operators between numbers, in their order, to reach a target.

The training text boxes an expression at sight, or tries a few and gives up, or tries operators until an
expression fits. Reinforcement learning has to find that a longer search pays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from random import Random

from archer.problems.lab.splits import draw
from archer.types import Problem

OPERATORS = "+-*"
PRODUCT = re.compile(r"(\d+)(\*)(\d+)")
SUM = re.compile(r"(^-?\d+)([+-])(\d+)")


@dataclass(frozen=True)
class CountdownTask:
    """``count`` numbers of 1..``high``; the target is what some choice of operators gives."""

    count: int = 3
    high: int = 9
    glance: float = 0.45
    """Share of training texts that answer at sight; what ``glance`` and ``search`` leave give up early."""
    search: float = 0.25
    """Share of training texts that search to the end."""
    noise: float = 0.01
    """Share of expressions evaluated wrong."""

    name = "lab-countdown"

    def problem(self, split: str, index: int) -> Problem:
        """Return problem ``index`` of ``split`` ("train" or "test"); no (numbers, target) is in both."""
        prompt = draw(self.name, split, index, self._prompt)
        left, target = prompt.split("=")
        gold = {"numbers": [int(n) for n in left.split()], "target": int(target)}
        return Problem(f"{self.name}/{split}/{index}", self.name, prompt, "countdown", gold)

    def _prompt(self, rng: Random) -> str:
        numbers = [rng.randint(1, self.high) for _ in range(self.count)]
        target = evaluate(rng.choice(expressions(numbers)))
        return f"{' '.join(map(str, numbers))}={target}"

    def text(self, problem: Problem, rng: Random) -> str:
        """Return one training response: right, wrong or noisy, by the shares."""
        options = expressions(problem.gold["numbers"])
        rng.shuffle(options)
        mode = rng.choices(["glance", "search", "try"], [self.glance, self.search, 1 - self.glance - self.search])[0]
        if mode == "glance":
            return f"glance\n\\boxed{{{options[0]}}}"
        tries = len(options) if mode == "search" else rng.randint(1, 3)
        lines = [mode]
        for option in options[:tries]:
            steps = work(option)
            if rng.random() < self.noise:
                steps[-1] = str(int(steps[-1]) + rng.choice([-10, -1, 1, 10]))
            reached = int(steps[-1]) == problem.gold["target"]
            # The target is written down beside the value: comparing neighbours is what so small a model can learn.
            lines.append(f"{'='.join(steps)}?{problem.gold['target']} {'yes' if reached else 'no'}")
            if reached:
                break
        return "\n".join([*lines, f"\\boxed{{{option}}}"])


def expressions(numbers: list[int]) -> list[str]:
    """Return every expression over ``numbers`` in order, one of ``+-*`` at each gap."""
    gaps = product(OPERATORS, repeat=len(numbers) - 1)
    return ["".join(f"{n}{o}" for n, o in zip(numbers, (*gap, ""), strict=True)) for gap in gaps]


def work(expression: str) -> list[str]:
    """Return the written evaluation, one operation a step, products first: 6+8*2, 6+16, 22."""
    steps = [expression]
    while match := PRODUCT.search(steps[-1]) or SUM.search(steps[-1]):
        left, operator, right = match.groups()
        value = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[operator](int(left), int(right))
        steps.append(steps[-1][: match.start()] + str(value) + steps[-1][match.end() :])
    return steps


def evaluate(expression: str) -> int:
    """Return the value of a ``+-*`` expression over non-negative integers."""
    return int(work(expression)[-1])
