"""Numbers and values at points: where equality is decided to many digits, and relative to size.

Only in a worker (``archer.rewards.workers``): evaluating may run for minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy  # type: ignore[import-untyped]
from sympy import Add, Basic, Float, Pow, Rational, Symbol, ceiling, factorial, floor, nan, oo, zoo
from sympy.core.function import AppliedUndef  # type: ignore[import-untyped]

_COUNT = 12  # variables at most, for which there are points
_POINTS = (
    tuple(0.37 + 0.61 * ((7 * place) % 13) / 3 for place in range(_COUNT)),
    tuple(0.29 + 0.53 * ((5 * place + 4) % 13) / 3 for place in range(_COUNT)),
    tuple(-0.31 - 0.47 * ((6 * place + 2) % 13) / 3 for place in range(_COUNT)),
)
MOST_BITS = 500_000  # of a number in an answer; a tower of powers is turned away before it is built


def is_abstract(*expressions: Basic) -> bool:
    """Say whether there may be no value at a point: sums to n, integrals."""
    return any(expression.has(sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit) for expression in expressions)


def plainly(expression: Basic) -> Basic:
    """Take f(x) and dx/dt for names, which have values of their own."""
    unknown = expression.atoms(AppliedUndef, sympy.Derivative)
    return expression.xreplace({part: Symbol(f"{part}", real=True) for part in unknown})


def imaginary(expression: Basic) -> Basic:
    """Take the letter i for the imaginary unit."""
    return expression.xreplace({symbol: sympy.I for symbol in expression.free_symbols if symbol.name == "i"})


def same_number(left: Any, right: Any, decimals: int) -> bool:
    """Compare numbers: rationals exactly, others to 150 digits, decimals beside them to ``decimals``."""
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
    """Evaluate, decimals taken at their word."""
    number = number.xreplace({part: Rational(str(part)) for part in number.atoms(Float)})
    return number.doit()


def _ends(number: Any) -> bool:
    return not pow(10, 2000, int(number.q))


def _is_near(left: Basic, right: Basic, decimals: int) -> bool:
    """Compare absolutely and relatively: a tiny number is not near to another because both are tiny."""
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
    """Say whether a sum has a term too small for 500 bits to show."""
    for part in number.atoms(Add) if isinstance(number, Basic) else ():
        sizes = [abs(sympy.N(term, 5)) for term in part.args]
        if min(sizes) < 1e-60 * max(sizes):
            return True
    return False


def same_at_points(left: Basic, right: Basic) -> bool | None:
    """Compare at three points; None where that decides nothing.

    Where numbers are rounded down or up, three small ones tell little: then at as many as 40, i to n being whole.
    """
    names = sorted(left.free_symbols | right.free_symbols, key=str)
    if len(names) > _COUNT:
        return None
    decided = None
    steps = left.has(floor, ceiling) or right.has(floor, ceiling)
    whole = ["i" <= str(name).lower()[0] <= "n" for name in names]
    for point in _steps(whole) if steps else _POINTS:
        one, other = _at(left, names, point), _at(right, names, point)
        if not (one.is_number and other.is_number) or one.has(nan, zoo, oo) or other.has(nan, zoo, oo):
            continue
        if point[0] < 0 and not (one.is_real and other.is_real):
            continue
        if not bool(abs(one - other) <= 1e-20 * max(abs(one), abs(other))):
            return False
        decided = True
    return decided


def _steps(whole: list[bool]) -> Iterator[tuple[float, ...]]:
    for count in range(1, 41):
        sizes = [1 + (count * (2 * place + 1) * 7) % 41 for place in range(len(whole))]
        yield tuple(size if is_whole else size / 4 for size, is_whole in zip(sizes, whole, strict=True))


def _at(expression: Basic, names: list[Any], point: tuple[float, ...]) -> Any:
    values = {name: Rational(f"{number:.4f}") for name, number in zip(names, point, strict=False)}
    return sympy.N(_exact(expression).xreplace(values), 30, maxn=200)


def bits(expression: Any) -> float:
    """Bound the size of the largest number that evaluating would build."""
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
    """Say whether one is the other times a number, by their ratio at two points."""
    left, right = plainly(left), plainly(right)
    names = sorted(left.free_symbols, key=str)
    if not names or left.free_symbols != right.free_symbols or len(names) > _COUNT or is_abstract(left, right):
        return False
    ratios = []
    for point in _POINTS[:2]:
        one, other = _at(left, names, point), _at(right, names, point)
        if not (one.is_number and other.is_number) or other == 0 or one.has(nan, zoo, oo):
            return False
        ratios.append(one / other)
    return bool(ratios[0] != 0 and abs(ratios[0] - ratios[1]) <= 1e-20 * abs(ratios[0]))
