r"""Reads and compares exactly the numbers that need no algebra: integers, decimals, fractions, powers of ten."""

from __future__ import annotations

import re
from fractions import Fraction

# Between thousands: a comma or a space, as LaTeX writes them.
_SEPARATOR = re.compile(r",\\!|\{,\}|\\[,;! ]|[, ~]")
_DIGITS = rf"[1-9][0-9]{{0,2}}(?:(?:{_SEPARATOR.pattern})[0-9]{{3}})+|[0-9]+"
_TIMES = r"\s*(?:\\times|\\cdot|\*|×)\s*10\s*\^"
_PLAIN = re.compile(
    rf"(?P<sign>[+-]?)\s*(?:"
    rf"\\[dtc]?frac\s*\{{\s*+(?:(?P<inner>[+-])\s*+)?(?P<over>[0-9]+)\s*\}}\s*\{{\s*(?P<under>[0-9]+)\s*\}}"
    rf"|\\[dtc]?frac\s*(?P<one>[0-9])\s*(?P<digit>[0-9])"
    rf"|(?P<top>[0-9]+)\s*/\s*(?P<bottom>[0-9]+)"
    rf"|(?P<number>(?:{_DIGITS})(?:\.[0-9]*)?|\.[0-9]+)"
    rf"(?:[eE](?P<exponent>[+-]?[0-9]{{1,3}})|{_TIMES}\s*(?:\{{\s*(?P<power>[+-]?[0-9]{{1,3}})\s*\}}|(?P<ten>[0-9])))?)"
)
_LONGEST_PLAIN = 2000  # characters; below the length at which int() refuses


def plain_number(text: str) -> Fraction | None:
    r"""Read an integer, decimal, ``a/b``, ``\frac{a}{b}`` or power of ten exactly; None for anything else.

    Sign, leading zeros, separated thousands, ``4.5e33``, ``4.5 \times 10^{33}``, spaces, surrounding dollars and
    one full stop at the end are allowed.
    """
    if len(text) > _LONGEST_PLAIN:
        return None
    text = text.strip().strip("$").strip()
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    part = {name: value or "" for name, value in match.groupdict().items()}
    over, under = part["over"] or part["one"] or part["top"], part["under"] or part["digit"] or part["bottom"]
    if under and not int(under):
        return None
    exponent = part["exponent"] or part["power"] or part["ten"] or "0"
    number = _SEPARATOR.sub("", part["number"])
    value = Fraction(int(over), int(under)) if under else Fraction(f"{number}e{exponent}")
    return -value if (part["sign"] == "-") != (part["inner"] == "-") else value


def ends(number: Fraction) -> bool:
    """Return whether the number has finitely many decimals."""
    return not pow(10, _LONGEST_PLAIN, number.denominator)


def plain_equal(gold: str, answer: str) -> bool | None:
    """Compare two plain numbers exactly; None unless both are plain.

    None also for a decimal beside a fraction that no decimal equals (0.333 and 1/3): an exact comparison
    cannot decide whether that is near enough.
    """
    left, right = plain_number(gold), plain_number(answer)
    if left is None or right is None:
        return None
    endless = not (ends(left) and ends(right))
    return None if endless and ("." in gold) != ("." in answer) else left == right


def fraction(number: Fraction) -> str:
    """Write a number as LaTeX."""
    sign = "-" if number < 0 else ""
    whole = number.denominator == 1
    return f"{sign}{abs(number)}" if whole else rf"{sign}\frac{{{abs(number.numerator)}}}{{{number.denominator}}}"


def repeated(start: str, block: str) -> str:
    """Write a repeating decimal as a fraction."""
    places = len(start.partition(".")[2])
    sign = -1 if start.startswith("-") else 1
    head = Fraction(start.lstrip("+-") + "0") if start.strip("+-.") else Fraction(0)
    return fraction(sign * (head + Fraction(int(block), 10**places * (10 ** len(block) - 1))))
