"""Equality of numbers to many digits, relative to their size, and of expressions by their values at points.

Evaluation may run for minutes, so call these functions only in a worker (``archer.rewards.workers``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy  # type: ignore[import-untyped]
from sympy import Add, Basic, Float, Pow, Rational, Symbol, ceiling, factorial, floor, nan, oo, zoo
from sympy.core.function import AppliedUndef  # type: ignore[import-untyped]

_COUNT = 12  # variables at most: a point has that many coordinates
_POINTS = (
    tuple(0.37 + 0.61 * ((7 * index) % 13) / 3 for index in range(_COUNT)),
    tuple(0.29 + 0.53 * ((5 * index + 4) % 13) / 3 for index in range(_COUNT)),
    tuple(-0.31 - 0.47 * ((6 * index + 2) % 13) / 3 for index in range(_COUNT)),
)
MOST_BITS = 500_000  # of a number in an answer; a tower of powers is refused before it is built


def is_abstract(*expressions: Basic) -> bool:
    """Return whether an expression may have no value at a point, as sums to n and integrals."""
    return any(expression.has(sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit) for expression in expressions)


def plainly(expression: Basic) -> Basic:
    """Replace f(x) and dx/dt by symbols of their own."""
    unknown = expression.atoms(AppliedUndef, sympy.Derivative)
    return expression.xreplace({part: Symbol(f"{part}", real=True) for part in unknown})


def imaginary(expression: Basic) -> Basic:
    """Replace the letter i by the imaginary unit."""
    return expression.xreplace({symbol: sympy.I for symbol in expression.free_symbols if symbol.name == "i"})


def same_number(left: Any, right: Any, decimals: int) -> bool:
    """Return whether numbers are equal: rationals exactly, others to 150 digits, decimals to ``decimals`` places."""
    decimal = left.has(Float), right.has(Float)
    left, right = _exact(left), _exact(right)
    if left.has(nan, zoo, oo) or right.has(nan, zoo, oo):
        return bool(left == right) and not left.has(nan, zoo)
    rational = left.is_Rational and right.is_Rational
    if rational and (not any(decimal) or (_ends(left) and _ends(right))):
        return bool(left == right)
    if any(decimal):
        return _is_near(left, right, decimals)
    if rational or _hides(left) or _hides(right):
        return bool(sympy.simplify(left - right) == 0)
    return _is_zero(left - right)


def _exact(number: Basic) -> Basic:
    """Evaluate, reading decimals as exact rationals."""
    number = number.xreplace({part: Rational(str(part)) for part in number.atoms(Float)})
    return number.doit()


def _ends(number: Any) -> bool:
    return not pow(10, 2000, int(number.q))


def _is_near(left: Basic, right: Basic, decimals: int) -> bool:
    """Compare absolutely and relatively: two tiny numbers are not near merely because both are tiny."""
    gap, size = (abs(sympy.N(part, 30, maxn=500)) for part in (left - right, right))
    try:
        return bool(gap < 10.0**-decimals and gap <= 10.0 ** (1 - decimals) * size)
    except TypeError:  # not a number after all
        return False


def _is_zero(number: Basic) -> bool:
    value = number.evalf(10, maxn=500)
    if value.is_number and value.has(Float):  # a precision of 1: 500 bits could not tell it from zero
        return all(part._prec == 1 for part in value.as_real_imag() if part != 0)
    return bool(value == 0)


def _hides(number: Basic) -> bool:
    """Return whether a sum has a term too small for 500 bits to show."""
    for part in number.atoms(Add) if isinstance(number, Basic) else ():
        sizes = [abs(sympy.N(term, 5)) for term in part.args]
        if min(sizes) < 1e-60 * max(sizes):
            return True
    return False


def same_at_points(left: Basic, right: Basic) -> bool | None:
    """Return whether two expressions agree at three points; None if that decides nothing.

    With floor or ceiling three points tell little: then up to 40 are tried, where variables named i to n are integers.
    """
    names = sorted(left.free_symbols | right.free_symbols, key=str)
    if len(names) > _COUNT:
        return None
    decided = None
    steps = left.has(floor, ceiling) or right.has(floor, ceiling)
    whole = ["i" <= str(name).lower()[0] <= "n" for name in names]
    for point in _steps(whole) if steps else _POINTS:
        left_at, right_at = _at(left, names, point), _at(right, names, point)
        if not (left_at.is_number and right_at.is_number) or left_at.has(nan, zoo, oo) or right_at.has(nan, zoo, oo):
            continue
        if point[0] < 0 and not (left_at.is_real and right_at.is_real):
            continue
        if not bool(abs(left_at - right_at) <= 1e-20 * max(abs(left_at), abs(right_at))):
            return False
        decided = True
    return decided


def _steps(whole: list[bool]) -> Iterator[tuple[float, ...]]:
    for count in range(1, 41):
        sizes = [1 + (count * (2 * index + 1) * 7) % 41 for index in range(len(whole))]
        yield tuple(size if is_whole else size / 4 for size, is_whole in zip(sizes, whole, strict=True))


def _at(expression: Basic, names: list[Any], point: tuple[float, ...]) -> Any:
    values = {name: Rational(f"{number:.4f}") for name, number in zip(names, point, strict=False)}
    return sympy.N(_exact(expression).xreplace(values), 30, maxn=200)


def bits(expression: Any) -> float:
    """Return an upper bound on the bits of the largest number that evaluation would build."""
    if not isinstance(expression, Basic) or isinstance(expression, Symbol):
        return 0
    if expression.is_Rational:
        return float(expression.p.bit_length() + expression.q.bit_length())
    inner = max([bits(part) for part in expression.args], default=0.0)
    if inner > MOST_BITS:
        return inner
    if isinstance(expression, Pow) and expression.base.is_number and expression.exp.is_number:
        return (
            max(inner, (1 + bits(expression.base)) * _magnitude(expression.exp))
            if expression.exp.has(sympy.Integer)
            else inner
        )
    if isinstance(expression, factorial) and expression.args[0].is_number:
        return max(inner, 20 * _magnitude(expression.args[0]))
    return inner


def _magnitude(number: Basic) -> float:
    try:
        return float(abs(sympy.N(number, 3)))
    except (TypeError, OverflowError, ValueError):
        return float("inf")


def is_multiple(left: Any, right: Any) -> bool:
    """Return whether left_at expression is a multiple of the right_at, by their ratio at two points."""
    left, right = plainly(left), plainly(right)
    names = sorted(left.free_symbols, key=str)
    if not names or left.free_symbols != right.free_symbols or len(names) > _COUNT or is_abstract(left, right):
        return False
    ratios = []
    for point in _POINTS[:2]:
        left_at, right_at = _at(left, names, point), _at(right, names, point)
        if not (left_at.is_number and right_at.is_number) or right_at == 0 or left_at.has(nan, zoo, oo):
            return False
        ratios.append(left_at / right_at)
    return bool(ratios[0] != 0 and abs(ratios[0] - ratios[1]) <= 1e-20 * abs(ratios[0]))
