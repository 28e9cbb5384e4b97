"""lab-code: infer a Python function from examples of its values; hidden tests judge it.

The training text writes the function, or one with a wrong constant, or a table of the visible examples
(which fails every hidden test). Reinforcement learning has to find that only the rule pays.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random

from archer.problems.lab.splits import draw
from archer.types import Problem

RULES = {
    "line": "{a}*x+{b}",
    "drop": "{b}-{a}*x",
    "square": "x*x+{a}*x+{b}",
    "max": "max({a}*x,{b})",
    "min": "min({a}*x,{b})",
    "mod": "x%{a}+{b}",
    "div": "x//{a}+{b}",
    "gap": "{a}*abs(x-{b})",
}
VISIBLE = (0, 1, 2, 5, 20)
HIDDEN = (3, 7, 13, 26)


@dataclass(frozen=True)
class CodeTask:
    """One rule of :data:`RULES` with ``a`` in 2..9 and ``b`` in 1..``high``, identified by its visible values alone."""

    high: int = 20
    rule: float = 0.45
    """Share of training texts with the right function; what ``rule`` and ``table`` leave have a wrong constant."""
    table: float = 0.35
    """Share of training texts with a table of the examples."""

    name = "lab-code"

    def problem(self, split: str, index: int) -> Problem:
        """Return problem ``index`` of ``split`` ("train" or "test"); no function is in both."""
        key = draw(self.name, split, index, self._key)
        body = key.split(" ")[1]
        tests = [{"arguments": [x], "expected": value(body, x)} for x in HIDDEN]
        prompt = " ".join(f"f({x})={value(body, x)}" for x in VISIBLE)
        gold = {"function": "f", "tests": tests}
        meta = {"key": key}
        return Problem(f"{self.name}/{split}/{index}", self.name, prompt, "code", gold, meta=meta)

    def _key(self, rng: Random) -> str:
        return rng.choice(identifiable(self.high))

    def text(self, problem: Problem, rng: Random) -> str:
        """Return one training response: the rule, a table of the examples, or a rule with a wrong constant."""
        kind, body = problem.meta["key"].split(" ")
        mode = rng.choices(["rule", "table", "near"], [self.rule, self.table, 1 - self.rule - self.table])[0]
        if mode == "table":
            pairs = ",".join(f"{x}:{value(body, x)}" for x in VISIBLE)
            return fence("table", f"{{{pairs}}}[x]")
        if mode == "near":
            right = body
            while body == right:
                body = RULES[kind].format(a=rng.randint(2, 9), b=rng.randint(1, self.high))
        return fence(kind, body)


@cache
def identifiable(high: int) -> tuple[str, ...]:
    """Return ``kind body`` for every function that its visible values distinguish from all others.

    Bodies that compute the same are one function, so that it cannot be in both splits.
    """
    bodies: dict[tuple[int, ...], dict[tuple[int, ...], str]] = defaultdict(dict)
    for kind, rule in RULES.items():
        for a, b in product(range(2, 10), range(1, high + 1)):
            body = rule.format(a=a, b=b)
            hidden = tuple(value(body, x) for x in HIDDEN)
            bodies[tuple(value(body, x) for x in VISIBLE)].setdefault(hidden, f"{kind} {body}")
    return tuple(next(iter(same.values())) for same in bodies.values() if len(same) == 1)


def fence(note: str, body: str) -> str:
    """Return a response: a word for the method, then the program."""
    return f"{note}\n```python\ndef f(x):\n    return {body}\n```"


def value(body: str, x: int) -> int:
    """Return the value of a rule of :data:`RULES` at ``x`` (never used on model output)."""
    result = eval(body, {"__builtins__": {"max": max, "min": min, "abs": abs}}, {"x": x})
    return int(result)
