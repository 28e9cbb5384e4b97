"""Decides whether two sympy expressions, a gold and an answer, are equal.

math-verify is asked about inequalities and unevaluated sums only: it rounds differences to zero, finds equations
equal that have no solutions, and takes a tuple for a set. A hostile answer may take minutes and gigabytes, so call
these functions only in a worker (``archer.rewards.workers``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy  # type: ignore[import-untyped]
from math_verify.grader import is_relation, sympy_expr_eq, sympy_solve_and_compare, unwrap_fcs
from sympy import Basic, Eq, Interval, MatrixBase, Set, Tuple, oo

from archer.rewards.mathematics.numeric import (
    MOST_BITS,
    bits,
    imaginary,
    is_abstract,
    is_multiple,
    plainly,
    same_at_points,
    same_number,
)
from archer.rewards.mathematics.reading import read


@dataclass(frozen=True)
class Scale:
    """What counts as equal; the fields are those of :class:`~archer.rewards.math.MathReward`."""

    decimals: int = 6
    same_names: bool = True
    relation_for_set: bool = True


def conditions(texts: list[str]) -> Any:
    """Read alternative conditions, such as x < 2 or x > 3, as the union of their solutions."""
    return sympy.Union(*(_as_set(read(text)) for text in texts))


def equal(left: Basic | MatrixBase, right: Basic | MatrixBase, scale: Scale) -> bool:
    """Return whether two expressions, the gold's first, are equal."""
    relations = is_relation(left), is_relation(right)
    if all(relations):
        return _same_relation(left, right, scale)
    if any(relations) or isinstance(left, Set) or isinstance(right, Set):
        return _same_set(left, right, scale)
    if isinstance(left, MatrixBase | sympy.MatrixExpr) or isinstance(right, MatrixBase | sympy.MatrixExpr):
        return _same_matrix(left, right, scale)
    if isinstance(left, Tuple) or isinstance(right, Tuple):
        both = isinstance(left, Tuple) and isinstance(right, Tuple) and len(left) == len(right)
        return both and all(equal(*pair, scale) for pair in zip(left, right, strict=True))
    return _same_value(left, right, scale)


def _same_value(left: Basic, right: Basic, scale: Scale) -> bool:
    if left == right:
        return True
    if left.has(oo, -oo) or right.has(oo, -oo):
        return bool(left.doit() == right.doit()) and right.doit().is_infinite is True  # not 1/oo for 0
    if max(bits(left), bits(right)) > MOST_BITS:
        return False
    left, right = imaginary(plainly(left)), imaginary(plainly(right))
    if not left.free_symbols and not right.free_symbols and not is_abstract(left, right):
        return same_number(left, right, scale.decimals)
    if not is_abstract(left, right) and scale.same_names:
        verdict = same_at_points(left, right)
        if verdict is not None:
            return verdict
    return bool(sympy_expr_eq(left, right, scale.decimals, 15, strict=scale.same_names))


def _same_matrix(left: Any, right: Any, scale: Scale) -> bool:
    try:
        left, right = left.doit(), right.doit()
    except (ValueError, TypeError, AttributeError):
        return False
    both = isinstance(left, MatrixBase) and isinstance(right, MatrixBase) and left.shape == right.shape
    return both and all(equal(*pair, scale) for pair in zip(left.flat(), right.flat(), strict=True))


def _same_set(left: Any, right: Any, scale: Scale) -> bool:
    """Compare sets; a condition on one variable is the set of its solutions."""
    if is_relation(right) and not scale.relation_for_set:
        return False
    left, right = _as_set(left), _as_set(right)
    if not isinstance(left, Set) or not isinstance(right, Set):
        return False
    if isinstance(left, Interval) and isinstance(right, Interval):
        ends = (left.left_open, left.right_open) == (right.left_open, right.right_open)
        return ends and equal(left.start, right.start, scale) and equal(left.end, right.end, scale)
    if type(left) is type(right) and isinstance(left, sympy.Union | sympy.FiniteSet):
        rest = list(right.args)
        for part in left.args:
            partner = next((other for other in rest if equal(part, other, scale)), None)
            if partner is None:
                break
            rest.remove(partner)
        else:
            if not rest:
                return True
    try:
        return left == right or left.symmetric_difference(right).is_empty is True
    except (TypeError, ValueError, NotImplementedError, AttributeError):
        return False


def _as_set(expression: Any) -> Any:
    if isinstance(expression, Eq) and isinstance(expression.rhs, Set):  # x in S
        return expression.rhs.doit()
    try:
        return unwrap_fcs(expression).as_set() if is_relation(expression) else expression.doit()
    except (TypeError, ValueError, NotImplementedError, AttributeError):
        return expression


def _same_relation(left: Any, right: Any, scale: Scale) -> bool:
    """Compare equations and inequalities: equal up to a factor, or with the same solutions (at least one)."""
    if isinstance(left, Eq) and isinstance(right, Eq):
        if is_multiple(left.lhs - left.rhs, right.lhs - right.rhs):
            return True
        left, right = plainly(left), plainly(right)  # else dx/dt would be 0, as x and t are mere symbols
        if scale.same_names and left.free_symbols != right.free_symbols:
            return False
        try:
            some = sympy.solve(left, left.free_symbols) and sympy.solve(right, right.free_symbols)
            return bool(some) and sympy_solve_and_compare(left, right, scale.decimals, 15)
        except (TypeError, ValueError, NotImplementedError, AttributeError):
            return False
    return bool(sympy_expr_eq(left, right, scale.decimals, 15, strict=scale.same_names))
