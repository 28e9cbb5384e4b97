"""Encloses the value of an expression: exactly where it is rational, else between proven bounds (Arb, by FLINT).

An enclosure never misses the value, so two that are apart prove two numbers different, and one that stays wide, however
many bits it is given, shows that nothing is known: a hidden zero, or a division by one. Evaluation by sympy's ``evalf``
shows neither. Only ``numeric`` uses this module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import sympy  # type: ignore[import-untyped]
from flint import acb, arb, ctx, fmpq, fmpz
from sympy import Basic

Enclosure = Any  # fmpq: the value itself; acb: a rectangle of the complex plane that holds it
MOST_EXACT_BITS = 500_000  # of numerator and denominator together; beyond, a number is enclosed
MOST_FACTORIAL = 20_000
MOST_ROOT = 64
HIDDEN = 512  # bits: a term of a sum that is so many times smaller than another cannot be seen in the sum


class UndefinedError(ArithmeticError):
    """No finite enclosure: a division by what may be zero, a number out of range, a function at its pole."""


class UnknownError(ValueError):
    """The expression holds something that has no enclosure here, as an integral or a free variable."""


class Evaluator:
    """Encloses expressions to ``bits`` bits, with numbers for their variables."""

    def __init__(self, bits: int, point: Mapping[Basic, fmpq] | None = None) -> None:
        self.bits = bits
        self.point = point or {}
        self.hides = False
        """Whether some sum had a term too small beside another to be seen in it."""

    def __call__(self, expression: Basic) -> Enclosure:
        """Return the enclosure of a number. Raises UndefinedError and UnknownError."""
        with ctx.workprec(self.bits):
            return self._of(expression)

    def _of(self, expression: Basic) -> Enclosure:
        """Enclose one node; exact numbers come first, as they are most of all."""
        if expression.is_Rational:
            return _fmpq(expression)
        if expression in self.point:
            return self.point[expression]
        if expression.is_Float:
            return _fmpq(sympy.Rational(str(expression)))
        kind = type(expression).__name__
        if kind in CONSTANTS:
            return acb(*CONSTANTS[kind]())
        parts = [self._of(part) for part in expression.args] if expression.args else []
        if kind == "Add":
            return self._sum(parts)
        rule = RULES.get(kind)
        if rule is None or not parts:
            raise UnknownError(f"{kind} has no enclosure here")
        return _finite(rule(*parts))

    def _sum(self, parts: list[Enclosure]) -> Enclosure:
        total: Enclosure = fmpq(0)
        for part in parts:
            total = _both(total, part, lambda a, b: a + b)
        if any(type(part) is acb for part in parts) and not self.hides:
            sizes = [abs(acb(part)) for part in parts if part != 0]
            largest = max((size.abs_upper() for size in sizes), default=arb(0))
            self.hides = any(bool(size.abs_upper() * arb(2) ** HIDDEN < largest) for size in sizes)
        return _finite(total)


def is_known(value: Enclosure, bits: int) -> bool:
    """Return whether an enclosure tells at least so many bits of a number, or that it is exactly zero."""
    return type(value) is fmpq or bool(value.is_zero()) or value.rel_accuracy_bits() >= bits


def may_be_equal(left: Enclosure, right: Enclosure) -> bool:
    """Return whether the two enclosures have a number in common; False proves the numbers different."""
    return bool(left == right) if type(left) is type(right) is fmpq else bool(acb(left).overlaps(acb(right)))


def _fmpq(number: Any) -> fmpq:
    return fmpq(int(number.p), int(number.q))


def _finite(value: Enclosure) -> Enclosure:
    if type(value) is arb:
        value = acb(value)
    if type(value) is fmpz:
        value = fmpq(value)
    if type(value) is acb and not value.is_finite():
        raise UndefinedError("a value that is not finite, or not known to be")
    return value


def _both(left: Enclosure, right: Enclosure, apply: Callable[[Any, Any], Any]) -> Enclosure:
    """Compute exactly if both are exact and short, else with enclosures."""
    if type(left) is type(right) is fmpq and left.height_bits() + right.height_bits() <= MOST_EXACT_BITS:
        return apply(left, right)
    return apply(acb(left), acb(right))


def _product(*parts: Enclosure) -> Enclosure:
    return functools.reduce(lambda a, b: _finite(_both(a, b, lambda x, y: x * y)), parts, fmpq(1))


def _power(base: Enclosure, exponent: Enclosure) -> Enclosure:
    if type(base) is fmpq and type(exponent) is fmpq:
        exact = _exact_power(base, exponent)
        if exact is not None:
            return exact
    if base == 0:
        if acb(exponent).real > 0:
            return fmpq(0)
        raise UndefinedError("a power of zero")
    if exponent == fmpq(1, 2):
        return acb(base).sqrt()
    if type(exponent) is fmpq and exponent.q == 1:
        return acb(base) ** exponent.p
    return acb(base) ** acb(exponent)


def _exact_power(base: fmpq, exponent: fmpq) -> fmpq | None:
    """Return a rational power of a rational number if it is rational, None if it is not, or is too long."""
    if exponent == 0:
        return fmpq(1)
    if base == 0 or abs(exponent.p) * base.height_bits() > MOST_EXACT_BITS or exponent.q > MOST_ROOT:
        return None
    degree = int(exponent.q)
    if degree > 1:
        if base < 0:
            return None
        over, under = base.p.root(degree), base.q.root(degree)
        if over**degree != base.p or under**degree != base.q:
            return None
        base = fmpq(over, under)
    return base ** int(exponent.p)


def _logarithm(number: Enclosure, base: Enclosure | None = None) -> Enclosure:
    if number == 1 and base is None:
        return fmpq(0)
    value = acb(number).log()
    return value if base is None else value / acb(base).log()


def _real(value: Enclosure) -> arb:
    """Return the real part of a number that is known to be real."""
    value = acb(value)
    if not value.imag.is_zero():
        raise UndefinedError("a number that may not be real")
    return value.real


def _rounded(exact: Callable[[fmpq], fmpz], enclosed: Callable[[arb], arb]) -> Callable[[Enclosure], Enclosure]:
    def rule(value: Enclosure) -> Enclosure:
        if type(value) is fmpq:
            return fmpq(exact(value))
        rounded = enclosed(_real(value))
        whole = rounded.unique_fmpz()
        return acb(rounded) if whole is None else fmpq(whole)

    return rule


_floor = _rounded(lambda number: number.floor(), lambda ball: ball.floor())
_ceiling = _rounded(lambda number: number.ceil(), lambda ball: ball.ceil())


def _remainder(left: Enclosure, right: Enclosure) -> Enclosure:
    whole = _floor(_finite(_both(left, _power(right, fmpq(-1)), lambda a, b: a * b)))
    return _both(left, _product(right, whole), lambda a, b: a - b)


def _absolute(value: Enclosure) -> Enclosure:
    return abs(value) if type(value) is fmpq else acb(abs(value))


def _extreme(name: str, exact: Callable[..., fmpq]) -> Callable[..., Enclosure]:
    def rule(*values: Enclosure) -> Enclosure:
        if all(type(value) is fmpq for value in values):
            return exact(values)
        return acb(functools.reduce(lambda a, b: getattr(a, name)(b), map(_real, values)))

    return rule


def _factorial(number: Enclosure) -> Enclosure:
    if type(number) is fmpq and number.q == 1:
        if number < 0:
            raise UndefinedError("the factorial of a negative number")
        if number <= MOST_FACTORIAL:
            return fmpq(fmpz.fac_ui(int(number.p)))
    return acb(number + 1).gamma()


def _binomial(above: Enclosure, below: Enclosure) -> Enclosure:
    exact = type(above) is type(below) is fmpq and above.q == below.q == 1
    if exact and 0 <= above <= MOST_FACTORIAL and below <= MOST_FACTORIAL:
        return fmpq(fmpz.bin_uiui(int(above.p), int(below.p))) if below >= 0 else fmpq(0)
    if type(below) is fmpq and below.q == 1 and 0 <= below <= MOST_FACTORIAL:
        return (acb(above) - below + 1).rising(int(below.p)) / acb(fmpz.fac_ui(int(below.p)))
    return acb(above + 1).gamma() * acb(below + 1).rgamma() * acb(above - below + 1).rgamma()


def _by(name: str) -> Callable[[Enclosure], Enclosure]:
    """Return the rule of a function that Arb has for complex numbers."""

    def rule(value: Enclosure) -> Enclosure:
        return getattr(acb(value), name)()

    return rule


def _inverse(rule: Callable[[Enclosure], Enclosure]) -> Callable[[Enclosure], Enclosure]:
    """Return the rule of a function of 1/x, as arcsec is arccos(1/x)."""
    return lambda value: rule(_finite(_power(value, fmpq(-1))))


CONSTANTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "Pi": lambda: (arb.pi(),),
    "Exp1": lambda: (arb.const_e(),),
    "EulerGamma": lambda: (arb.const_euler(),),
    "Catalan": lambda: (arb.const_catalan(),),
    "GoldenRatio": lambda: ((1 + arb(5).sqrt()) / 2,),
    "ImaginaryUnit": lambda: (0, 1),
}
_SAME_NAMES = (
    "sin cos tan cot sec csc sinh cosh tanh coth sech csch asin acos atan asinh acosh atanh exp gamma erf erfc erfi"
)
RULES: dict[str, Callable[..., Enclosure]] = {
    **{name: _by(name) for name in _SAME_NAMES.split()},
    "acot": _inverse(_by("atan")), "asec": _inverse(_by("acos")), "acsc": _inverse(_by("asin")),
    "acoth": _inverse(_by("atanh")), "asech": _inverse(_by("acosh")), "acsch": _inverse(_by("asinh")),
    "Mul": _product, "Pow": _power, "log": _logarithm, "UnevaluatedExpr": lambda value: value,
    "Abs": _absolute, "sign": _by("sgn"), "re": lambda value: acb(acb(value).real),
    "im": lambda value: acb(acb(value).imag), "conjugate": _by("conjugate"), "arg": _by("arg"),
    "floor": _floor, "ceiling": _ceiling, "Mod": _remainder,
    "Max": _extreme("max", max), "Min": _extreme("min", min),
    "factorial": _factorial, "binomial": _binomial, "loggamma": _by("lgamma"), "zeta": _by("zeta"),
    "LambertW": _by("lambertw"),
}  # fmt: skip
