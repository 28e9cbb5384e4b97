"""Equality of numbers, proven or to 150 digits, and of expressions by their values at points.

A number must show its own value before it is compared: one that stays wide however many bits it is given (a hidden
zero, a division by one) is decided exactly by sympy, or not at all. Evaluation may run for minutes, so call these
functions only in a worker (``archer.rewards.workers``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import sympy  # type: ignore[import-untyped]
from flint import acb, arb, fmpq
from sympy import Basic, Float, Pow, Rational, Symbol, ceiling, factorial, floor
from sympy.core.function import AppliedUndef  # type: ignore[import-untyped]

from archer.rewards.mathematics.enclosures import (
    HIDDEN,
    Enclosure,
    Evaluator,
    UndefinedError,
    UnknownError,
    is_known,
    may_be_equal,
)

_COUNT = 12  # variables at most: a point has that many coordinates
_POINTS = (
    tuple(0.37 + 0.61 * ((7 * index) % 13) / 3 for index in range(_COUNT)),
    tuple(0.29 + 0.53 * ((5 * index + 4) % 13) / 3 for index in range(_COUNT)),
    tuple(-0.31 - 0.47 * ((6 * index + 2) % 13) / 3 for index in range(_COUNT)),
)
_BITS = (128, 1024, 4096)  # tried in turn; most pairs are told apart by the first
MOST_BITS = 500_000  # of a number in an answer; a tower of powers is refused before it is built
Point = Mapping[Basic, fmpq]


class UndecidedError(ValueError):
    """Neither bounds nor algebra tell whether two expressions are equal."""


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


def same_number(left: Basic, right: Basic, decimals: int) -> bool:
    """Return whether numbers are equal: rationals exactly, others to 150 digits, decimals to ``decimals`` places.

    Raises :class:`UndecidedError` where a number has no value, or none that can be told.
    """
    try:
        return _same_number(left, right, decimals)
    except UnknownError:  # what is left to do may be done by sympy
        try:
            return _same_number(left.doit(), right.doit(), decimals)
        except UnknownError as error:
            raise UndecidedError(str(error)) from error


def _same_number(left: Basic, right: Basic, decimals: int) -> bool:
    if left.has(Float) or right.has(Float):
        return _is_near(left, right, decimals)
    verdict = _compare(left, right, {})
    if verdict is None:
        verdict = _compare(_settled(left), _settled(right), {})
    return same_exactly(left, right) if verdict is None else verdict


def _compare(left: Basic, right: Basic, point: Point) -> bool | None:
    """Compare two values by ever narrower enclosures; None if they cannot be told from one another, nor be seen equal.

    Raises UndecidedError where a value stays without bounds.
    """
    known = hides = False
    for bits in _BITS:
        evaluate = Evaluator(bits, point)
        try:
            pair = evaluate(left), evaluate(right)
        except UndefinedError as error:
            if bits == _BITS[-1]:
                raise UndecidedError(str(error)) from error
            continue
        if not may_be_equal(*pair):
            return False
        if all(type(value) is fmpq for value in pair):
            return True
        known, hides = all(is_known(value, HIDDEN) for value in pair), evaluate.hides
    return True if known and not hides else None


def _settled(number: Basic) -> Basic:
    """Simplify, with exact numbers for decimals: beside a large number sympy would round them away."""
    return sympy.simplify(number.xreplace({part: Rational(str(part)) for part in number.atoms(Float)}).doit())


def _is_near(left: Basic, right: Basic, decimals: int) -> bool:
    """Compare absolutely and relatively: two tiny numbers are not near merely because both are tiny.

    Numbers whose decimals end are compared exactly.
    """
    for bits in _BITS:
        evaluate = Evaluator(bits)
        try:
            pair = evaluate(left), evaluate(right)
        except UndefinedError:
            continue
        if all(type(value) is fmpq and _ends(value) for value in pair):
            return bool(pair[0] == pair[1])
        gap, size = abs(acb(pair[0]) - acb(pair[1])), abs(acb(pair[1]))
        most = arb(10) ** -decimals
        if gap < most and gap <= 10 * most * size:
            return True
        if gap >= most or gap > 10 * most * size:
            return False
    raise UndecidedError(f"{left} and {right}")


def _ends(number: fmpq) -> bool:
    return not pow(10, 2000, int(number.q))


def same_exactly(left: Basic, right: Basic) -> bool:
    """Return whether algebra shows two expressions equal, or different by a number. Raises UndecidedError else."""
    difference = _settled(sympy.Add(left, sympy.Mul(-1, right, evaluate=False), evaluate=False))
    if difference == 0:
        return True
    with contextlib.suppress(UndefinedError, UnknownError):
        if is_known(Evaluator(_BITS[-1])(difference), 64):
            return False
    raise UndecidedError(f"{left} and {right}")


def same_at_points(left: Basic, right: Basic) -> bool:
    """Return whether two expressions agree at three points. Raises UndecidedError where neither those nor algebra tell.

    With floor or ceiling three points tell little: then up to 40 are tried, where variables named i to n are integers.
    """
    names = sorted(left.free_symbols | right.free_symbols, key=str)
    if len(names) > _COUNT:
        return same_exactly(left, right)
    steps = left.has(floor, ceiling) or right.has(floor, ceiling)
    whole = ["i" <= str(name).lower()[0] <= "n" for name in names]
    agree = defined = False
    for coordinates in _steps(whole) if steps else _POINTS:
        point = _point(names, coordinates)
        try:
            if coordinates[0] < 0 and not (_is_real(left, point) and _is_real(right, point)):
                continue
            verdict = _compare(left, right, point)
        except UnknownError:
            return same_exactly(left, right)
        except (UndecidedError, UndefinedError):
            continue
        if verdict is False:
            return False
        agree, defined = agree or verdict is True, True
    if not defined:
        raise UndecidedError(f"{left} and {right} have no values to compare")
    return agree or same_exactly(left, right)


def _point(names: list[Any], coordinates: tuple[float, ...]) -> Point:
    return {name: fmpq(round(number * 10_000), 10_000) for name, number in zip(names, coordinates, strict=False)}


def _is_real(expression: Basic, point: Point) -> bool:
    return bool(acb(Evaluator(_BITS[0], point)(expression)).imag.contains(0))


def _steps(whole: list[bool]) -> Iterator[tuple[float, ...]]:
    for count in range(1, 41):
        sizes = [1 + (count * (2 * index + 1) * 7) % 41 for index in range(len(whole))]
        yield tuple(size if is_whole else size / 4 for size, is_whole in zip(sizes, whole, strict=True))


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
        return float(acb(Evaluator(64)(number)).abs_upper())
    except (UndefinedError, UnknownError, OverflowError):
        return float("inf")


def is_multiple(left: Basic, right: Basic, positive: bool = False) -> bool:
    """Return whether one expression is a multiple of the other, by a positive number if so asked, at the points."""
    left, right = plainly(left), plainly(right)
    names = sorted(left.free_symbols, key=str)
    if not names or left.free_symbols != right.free_symbols or len(names) > _COUNT or is_abstract(left, right):
        return False
    try:
        ratios = [_ratio(left, right, _point(names, coordinates)) for coordinates in _POINTS]
    except (UndefinedError, UnknownError):
        return False
    first = ratios[0]
    alike = all(is_known(ratio, 64) and ratio != 0 and may_be_equal(ratio, first) for ratio in ratios)
    return alike and (not positive or bool(acb(first).real > 0))


def _ratio(left: Basic, right: Basic, point: Point) -> Enclosure:
    return Evaluator(_BITS[1], point)(sympy.Mul(left, Pow(right, -1, evaluate=False), evaluate=False))
