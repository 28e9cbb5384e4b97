"""Units of measurement after a value: which are the same, and which can be converted. Pure."""

from __future__ import annotations

import re
from fractions import Fraction

_NAMES = {
    "m": "metre meter", "g": "gram gramme", "s": "second sec", "min": "minute", "h": "hour hr", "day": "", "week": "",
    "year": "yr", "in": "inch inche", "ft": "foot feet", "yd": "yard", "mi": "mile", "L": "liter litre l",
    "lb": "pound", "oz": "ounce", "rad": "radian", "cent": "", "dollar": "usd buck", "N": "newton", "J": "joule",
    "W": "watt", "V": "volt", "Pa": "pascal", "Hz": "hertz", "mph": "", "gal": "gallon", "quart": "",
    "km": "kilometer kilometre", "acre": "", "cm": "centimeter centimetre", "mm": "millimeter millimetre",
    "kg": "kilogram", "mL": "milliliter millilitre ml", "month": "", "K": "kelvin", "degC": "", "degF": "",
    "am": "a.m", "pm": "p.m",
}  # fmt: skip
_SIZES = {
    "length": {"m": "1", "km": "1000", "cm": "1/100", "mm": "1/1000", "in": "127/5000", "ft": "381/1250",
               "yd": "1143/1250",                "mi": "201168/125", "nm": "1/1000000000", "dm": "1/10"},
    "mass": {"g": "1", "kg": "1000", "mg": "1/1000", "lb": "45359237/100000", "oz": "45359237/1600000"},
    "time": {"s": "1", "min": "60", "h": "3600", "day": "86400", "week": "604800", "ms": "1/1000",
             "month": "0", "year": "0"},
    "volume": {"L": "1", "mL": "1/1000", "gal": "0", "quart": "0"},
    "money": {"dollar": "1", "cent": "1/100"},
    "angle": {"rad": "1"}, "force": {"N": "1", "kN": "1000"}, "energy": {"J": "1", "kJ": "1000"},
    "power": {"W": "1", "kW": "1000"}, "pressure": {"Pa": "1", "kPa": "1000"}, "frequency": {"Hz": "1"},
    "voltage": {"V": "1"}, "temperature": {"K": "1"},
}  # fmt: skip
_KNOWN = {name: (kind, Fraction(size)) for kind, sizes in _SIZES.items() for name, size in sizes.items()}
_ALIASES = {other: name for name, others in _NAMES.items() for other in [name, *others.split()]}
_POWER = re.compile(
    r"(?:(square|sq|cubic|cu)\.?)?([A-Z]+?(?=(?:squared|cubed)$)|[A-Z]++|[ap]\.m)\.?\^?([23])?(squared|cubed)?$",
    re.IGNORECASE,
)
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "squared": 2, "cubed": 3}


def _part(text: str) -> tuple[str, int, Fraction]:
    match = _POWER.match(text)
    if match is None:
        return text, 1, Fraction(0)
    before, name, digit, after = match.groups()
    power = int(digit or 1) * _POWERS.get((before or "").lower(), 1) * _POWERS.get((after or "").lower(), 1)
    name = _known(name) or name.lower()
    kind, size = _KNOWN.get(name, (name, Fraction(0)))
    return (kind, power, size**power) if size else (name, power, Fraction(0))


def is_known(name: str) -> bool:
    """Return whether a word is a unit of measurement, or a short name of one."""
    return bool(_known(name))


def _known(name: str) -> str:
    """Return the table's name of a unit, in the plural or in capitals too; the empty string for another word."""
    forms = (name, name.lower(), name.lower().removesuffix("s"), name.lower().removesuffix("es"))
    return next((_ALIASES.get(form, form) for form in forms if form in _ALIASES or form in _KNOWN), "")


def factor(gold: str, answer: str) -> Fraction | None:
    """Return the factor that converts the answer's number to the gold's unit.

    1 if the units may be the same; None if they are known to differ.
    """
    if not gold or not answer or gold == answer:
        return Fraction(1)
    wanted, given = ([_part(part) for part in text.split("/")] for text in (gold, answer))
    if len(wanted) != len(given):
        return Fraction(1)
    total = Fraction(1)
    for index, ((kind, power, size), (other, other_power, other_size)) in enumerate(zip(wanted, given, strict=True)):
        if not size or not other_size:
            if kind != other and (kind in _ALIASES.values() and other in _ALIASES.values()):
                return None
            continue
        if (kind, power) != (other, other_power):
            return None
        total *= (other_size / size) ** (-1 if index else 1)
    return total
