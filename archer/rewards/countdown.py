"""Countdown: reach a target from given numbers, in the given order, with + - * / and parentheses. Pure."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from archer.errors import DataError
from archer.rewards.base import Response, RunsIn
from archer.rewards.math import plain_equal
from archer.rewards.mathematics.answers import last_boxed
from archer.types import Json, Problem, Verdict

_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Fraction], Fraction]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_EXPRESSION = re.compile(r"[0-9+\-*/() ]+")


@dataclass(frozen=True)
class CountdownReward:
    r"""Does the boxed expression use the numbers in order, each once, and give the target?

    ``gold`` is ``{"numbers": [3, 5, 2], "target": 13}``. The answer is the last ``\boxed{...}``, in which
    ``\times`` and ``\cdot`` stand for ``*``; its exact value is compared as plain math answers are. Reasons, in
    this order: ``no_answer``, ``unparsed`` (no such expression: ``13=13``, ``2**3``), ``wrong_numbers`` (also
    ``13`` alone), ``wrong`` (another value, or a division by zero), ``right``.
    """

    rules: ClassVar[int] = 1

    runs_in: ClassVar[RunsIn] = "worker"

    right: float = 1.0
    """Reward for a right answer."""
    wrong: float = 0.0
    """Reward for any other response."""
    longest: int = 200
    """Characters of an expression at most, which bounds the depth of its syntax tree."""

    def __call__(self, problem: Problem, text: str) -> Verdict:
        """Judge one response. Raises :class:`~archer.errors.DataError` on a malformed gold."""
        return self.judge(problem.gold, self.extract(text))

    def grade_batch(self, items: Sequence[Response]) -> list[Verdict]:
        """Judge responses as calling it does; the grader itself judges equal answers once, and in workers."""
        return [self(item.problem, item.text) for item in items]

    def extract(self, text: str) -> str | None:
        """Return the content of the last box, which alone decides the verdict; None if there is none."""
        return last_boxed(text)

    def is_plain(self, gold: Json, answer: str | None) -> bool:
        """Return True: short answers, whole numbers and four operators are always cheap."""
        return True

    def judge(self, gold: Json, answer: str | None) -> Verdict:
        """Judge an extracted answer. Raises :class:`~archer.errors.DataError` on a malformed gold."""
        numbers, target = _task(gold)
        return self.verdict(_reason(numbers, target, answer, self.longest), answer or "")

    def verdict(self, reason: str, answer: str = "") -> Verdict:
        """Return the verdict for a reason."""
        correct = reason == "right"
        return Verdict(self.right if correct else self.wrong, correct, reason, answer[: self.longest])


def _task(gold: Json) -> tuple[list[int], int]:
    match gold:
        case {"numbers": [int(), int(), *_] as numbers, "target": int(target)} if all(
            type(number) is int for number in numbers
        ):
            return numbers, target
    raise DataError(
        f"gold: expected {{'numbers': [at least two whole numbers], 'target': whole number}}, found {gold!r}"
    )


def _reason(numbers: list[int], target: int, answer: str | None, longest: int) -> str:
    if answer is None:
        return "no_answer"
    tree = _parse(answer) if len(answer) <= longest else None
    if tree is None:
        return "unparsed"
    if _numbers(tree) != numbers:
        return "wrong_numbers"
    try:
        value = _value(tree)
    except ZeroDivisionError:
        return "wrong"
    return "right" if plain_equal(str(target), str(value)) else "wrong"


def _parse(answer: str) -> ast.expr | None:
    """Return the expression if it is made of whole numbers, the four operators and signs only."""
    text = answer.strip("$ ").replace(r"\times", "*").replace(r"\cdot", "*")
    if not _EXPRESSION.fullmatch(text):
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, MemoryError, RecursionError):  # the last two: nested too deep for the parser
        return None
    allowed = (ast.BinOp, ast.UnaryOp, ast.Constant, *_OPERATORS, *_SIGNS)
    return tree if all(isinstance(node, allowed) for node in ast.walk(tree)) else None


def _numbers(tree: ast.expr) -> list[int]:
    """List the numbers from left to right."""
    match tree:
        case ast.BinOp(left=left, right=right):
            return _numbers(left) + _numbers(right)
        case ast.UnaryOp(operand=operand):
            return _numbers(operand)
        case ast.Constant(value=int(value)):
            return [value]
    raise AssertionError(f"not an arithmetic node: {tree!r}")  # _parse lets nothing else through


def _value(tree: ast.expr) -> Fraction:
    match tree:
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op=op, operand=operand):
            return _SIGNS[type(op)](_value(operand))
        case ast.Constant(value=int(value)):
            return Fraction(value)
    raise AssertionError(f"not an arithmetic node: {tree!r}")
