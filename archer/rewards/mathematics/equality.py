"""Decides whether two sympy expressions, a gold and an answer, are equal.

math-verify only reads them: its comparison rounds differences to zero, finds equations equal that have no solutions,
and takes a tuple for a set. A hostile answer may take minutes and gigabytes, so call these functions only in a worker
(``archer.rewards.workers``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sympy  # type: ignore[import-untyped]
from math_verify.grader import is_relation, unwrap_fcs
from sympy import Basic, Eq, Interval, MatrixBase, Set, Tuple, oo

from archer.rewards.mathematics.numeric import (
    MOST_BITS,
    UndecidedError,
    bits,
    imaginary,
    is_abstract,
    is_multiple,
    plainly,
    same_at_points,
    same_exactly,
    same_number,
)
from archer.rewards.mathematics.reading import read

MOST_RENAMED = 3  # variables that may be renamed: every way is tried


@dataclass(frozen=True)
class Scale:
    """What counts as equal; the fields are those of :class:`~archer.rewards.math.MathReward`."""

    decimals: int = 6
    same_names: bool = True
    relation_for_set: bool = True


def conditions(texts: list[str], given: bool) -> Any:
    """Read alternative conditions, such as x < 2 or x > 3, as the union of their solutions, or a single one as it is.

    Raises UndecidedError for alternatives ``given`` as an answer, one of which is unsolved or adds nothing.
    """
    relations = [read(text) for text in texts]
    if len(relations) == 1:
        return relations[0]
    if given and not all(map(_is_solved, relations)):
        raise UndecidedError(f"{texts}: unsolved")
    sets = list(map(_as_set, relations))
    whole = sympy.Union(*sets)
    if given and any(sympy.Union(*sets[:index], *sets[index + 1 :]) == whole for index in range(len(sets))):
        raise UndecidedError(f"{texts}: one adds nothing to the others")
    return whole


def equal(left: Basic | MatrixBase, right: Basic | MatrixBase, scale: Scale) -> bool:
    """Return whether two expressions, the gold's first, are equal. Raises UndecidedError where that cannot be told."""
    if max(bits(left), bits(right)) > MOST_BITS:
        return False
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
    endless = left.has(oo, -oo), right.has(oo, -oo)
    if any(endless):
        return all(endless) and bool(left.doit() == right.doit()) and right.doit().is_infinite is True  # not 1/oo for 0
    left, right = imaginary(plainly(left)), imaginary(plainly(right))
    if is_abstract(left, right):
        left, right = left.doit(), right.doit()
    if is_abstract(left, right):
        return same_exactly(left, right)
    if not left.free_symbols and not right.free_symbols:
        return same_number(left, right, scale.decimals)
    return any(same_at_points(left, other) for other in _renamed(left, right, scale))


def _renamed(left: Any, right: Any, scale: Scale) -> Iterator[Any]:
    """Yield the right expression; where names do not matter, also with the left one's names for its own."""
    yield right
    names, own = (sorted(side.free_symbols, key=str) for side in (left, right))
    if not scale.same_names and len(names) == len(own) <= MOST_RENAMED:
        for order in itertools.permutations(names):
            yield right.xreplace(dict(zip(own, order, strict=True)))


def _same_matrix(left: Any, right: Any, scale: Scale) -> bool:
    try:
        left, right = left.doit(), right.doit()
    except (ValueError, TypeError, AttributeError):
        return False
    both = isinstance(left, MatrixBase) and isinstance(right, MatrixBase) and left.shape == right.shape
    return both and all(equal(*pair, scale) for pair in zip(left.flat(), right.flat(), strict=True))


def _same_set(left: Any, right: Any, scale: Scale) -> bool:
    """Compare sets; a condition on one variable is the set of its solutions."""
    if is_relation(right) and not (scale.relation_for_set and _is_solved(right)):
        return False
    left = _as_set(left)
    right = _as_set(right) if isinstance(left, Set) else None  # a condition takes long to solve
    if not isinstance(right, Set):
        return False
    if isinstance(left, Interval) and isinstance(right, Interval):
        ends = (left.left_open, left.right_open) == (right.left_open, right.right_open)
        return ends and equal(left.start, right.start, scale) and equal(left.end, right.end, scale)
    listed = type(left) is type(right) and isinstance(left, sympy.Union | sympy.FiniteSet)
    if listed and _paired(left.args, right.args, lambda part, other: equal(part, other, scale)):
        return True
    try:
        return left == right or all((one - other).is_empty is True for one, other in ((left, right), (right, left)))
    except (TypeError, ValueError, NotImplementedError, AttributeError):
        return False


def _as_set(expression: Any) -> Any:
    if isinstance(expression, Eq) and isinstance(expression.rhs, Set):  # x in S
        return expression.rhs.doit()
    try:
        return unwrap_fcs(expression).as_set() if is_relation(expression) else expression.doit()
    except (TypeError, ValueError, NotImplementedError, AttributeError):
        return expression


def _paired(left: Sequence[Any], right: Sequence[Any], same: Callable[[Any, Any], bool]) -> bool:
    """Return whether each part has a partner of its own on the other side."""
    rest = list(right)
    for part in left:
        partner = next((index for index, other in enumerate(rest) if same(part, other)), None)
        if partner is None:
            return False
        del rest[partner]
    return not rest


def _same_relation(left: Any, right: Any, scale: Scale) -> bool:
    """Compare equations and inequalities: equal up to a factor, or with the same solutions (at least one)."""
    parts, others = _conditions(left), _conditions(right)
    unsolved = all(map(_is_solved, parts)) and not all(map(_is_solved, others))  # 2x = 10 for x = 5
    if _paired(parts, others, lambda one, other: _same_condition(one, other, scale, unsolved)):
        return True
    if unsolved:
        return False
    if any(isinstance(part, Eq) for part in (*parts, *others)):
        return len(parts) == len(others) == 1 and _same_solutions(parts[0], others[0], scale)
    if left.free_symbols != right.free_symbols or len(left.free_symbols) != 1:
        return False
    return _same_set(left, right, scale)


def _is_solved(relation: Any) -> bool:
    """Return whether a condition says of a name, or of its absolute value, how it lies to numbers."""
    if isinstance(relation, sympy.And | sympy.Or):
        return all(map(_is_solved, relation.args))
    if not isinstance(relation, sympy.core.relational.Relational):
        return isinstance(relation, Set | sympy.Contains)
    sides = [part.args[0] if isinstance(part, sympy.Abs) else part for part in (relation.lhs, relation.rhs)]
    names = [isinstance(plainly(side), sympy.Symbol) for side in sides]
    closed = [not plainly(side).free_symbols for side in sides]
    return (names[0] and closed[1]) or (closed[0] and names[1])


def _conditions(relation: Any) -> list[Any]:
    """Return the parts of a chain, as a < b and b < c, with the smaller side first."""
    parts = relation.args if isinstance(relation, sympy.And) else (relation,)
    flipped = {sympy.Gt: sympy.Lt, sympy.Ge: sympy.Le}
    return [
        flipped[type(part)](part.rhs, part.lhs, evaluate=False) if type(part) in flipped else part for part in parts
    ]


def _same_condition(left: Any, right: Any, scale: Scale, unsolved: bool) -> bool:
    """Compare two conditions: up to a factor, but -x > -1 and no more for x < 1 if the answer is unsolved."""
    if type(left) is not type(right) or not isinstance(left, sympy.core.relational.Relational):
        return False
    directed = isinstance(left, sympy.Lt | sympy.Le)
    difference = left.lhs - left.rhs
    if unsolved:
        return directed and same_at_points(plainly(difference), plainly(right.lhs - right.rhs))
    return any(
        is_multiple(difference, other, positive=directed) for other in _renamed(left, right.lhs - right.rhs, scale)
    )


def _same_solutions(left: Any, right: Any, scale: Scale) -> bool:
    """Compare equations by the solutions that sympy finds."""
    if not isinstance(left, Eq) or not isinstance(right, Eq):
        return False
    left, right = plainly(left), plainly(right)  # else dx/dt would be 0, as x and t are mere symbols
    if left.free_symbols != right.free_symbols:
        return False
    try:
        ones, others = (sympy.solve(side, sorted(side.free_symbols, key=str), dict=True) for side in (left, right))
    except (TypeError, ValueError, NotImplementedError, AttributeError):
        return False
    return bool(ones) and _paired(ones, others, lambda one, other: _same_solution(one, other, scale))


def _same_solution(left: dict[Any, Any], right: dict[Any, Any], scale: Scale) -> bool:
    return left.keys() == right.keys() and all(_same_value(left[name], right[name], scale) for name in left)
