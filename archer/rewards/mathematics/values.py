r"""One value and what follows it: percent, degrees, units, a number's base, an ellipsis. Pure text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from archer.rewards.mathematics.plain import fraction, plain_number, repeated
from archer.rewards.mathematics.units import factor, is_known
from archer.rewards.mathematics.wording import FUNCTIONS, TEXT, TRIGONOMETRY, dots, primes
from archer.rewards.mathematics.wording import TEXT_COMMAND as _TEXT

_POWER = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
_UNIT = re.compile(
    rf"(?<![\s/*.])(?<!\\cdot)(?:\s|/|\\cdot(?![a-zA-Z])|\*|\.)*(?:{TEXT.pattern}{_POWER}|(?<![\\a-zA-Z_{{])([a-zA-Z]{{2,}}\.?){_POWER}"
    rf"|(?<=[0-9\s])([mgshLNJWKVC]){_POWER})\s*$"
)
_NO_UNIT = re.compile(r"(?<![a-zA-Z^{-])[0-9]|\b(?:or|also)\b")  # in words after a value: another value
_PERCENT = re.compile(
    rf"(?<!\s)\s*+(?:\\?%|(?:{_TEXT}\{{\s*+)?(?<![a-zA-Z])(?:percent(?:age)?|per cent|pct)\b\.?\s*+\}}?)\s*+$",
    re.IGNORECASE,
)
_ARC = re.compile(r"(?<=[0-9}])\s*\^\s*+(?:\{\s*+)?(?:\\prime\s*)+\}?$|(?<=[0-9}])'+$")
_DEGREES = re.compile(
    rf"(?<!\s)\s*+(?:\^\\circ\s*+(?:{_TEXT}\{{\s*+)?(?P<scale>[CF]?)\s*+\}}?"
    rf"|(?:{_TEXT}\{{\s*+)?(?<![a-zA-Z])deg(?:ree)?s?\b\.?\s*+\}}?)\s*+$",
    re.IGNORECASE,
)
_BASES = [
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
]
_NUMERAL = rf"([0-9A-Za-z ]++|\\overline\s*\{{[0-9A-Za-z ]+\}}|\([0-9A-Za-z ]+\)|{_TEXT}\{{[0-9A-Za-z ]+\}})\s*+"
_NAMED = rf"([0-9]++|{'|'.join(_BASES)})\s*+"
_LOW_BASE = re.compile(  # 204_7, 204_{\text{seven}}
    rf"{_NUMERAL}_\s*+(?:\{{\s*+)?(?:{_TEXT}\{{\s*+)?(?:base\s*+)?{_NAMED}(?:\}}\s*+)?\}}?$"
)
# "204 base 7" and "204 (in base seven)": the end tells where the number ends, as letters are digits too.
_IN_BASE = re.compile(rf"base[\s-]*+{_NAMED}(?:\)\s*+)?(?:\}}\s*+)?\)?$")
_BEFORE_BASE = re.compile(rf"{_NUMERAL}(?:\(\s*+)?(?:{_TEXT}\{{\s*+)?(?:\(\s*+)?(?:in\s++)?")
_INNER_BASE = re.compile(r"(?:(?<![a-zA-Z\\}_{0-9])[0-9]+|\)|\{[0-9]+\})\s*_\s*+(?:\{\s*+)?(?:[0-9]|\\text)")
_REPEATING = re.compile(r"([+-]?[0-9]*\.[0-9]*)(?:\\(?:overline|bar|dot)\s*\{?([0-9]+)\}?)$")
_ENDLESS = re.compile(r"([+-]?[0-9]*\.)([0-9]{3,})\s*(?:\\[a-z]*dots|\.\.\.+)$")


@dataclass(frozen=True)
class Value:
    """A value and what followed it; ``base`` 0 means none."""

    text: str
    percent: bool = False
    degrees: bool = False
    unit: str = ""
    base: int = 0


def value(text: str, letters: bool = True) -> Value:
    """Split a tidy text; ``letters`` allows a single letter, the m of 7m, as a unit."""
    numeral, base = _numeral(text)
    if base and all(int(digit, 36) < base for digit in numeral):  # else x_2 is a name
        return Value(numeral, base=base)
    bare = _PERCENT.sub("", text)
    if bare and bare != text:
        return Value(bare, percent=True)
    degrees = _DEGREES.search(text)
    if degrees and degrees.start() and not TRIGONOMETRY.search(text):
        return Value(text[: degrees.start()], degrees=True, unit=f"deg{degrees['scale']}" if degrees["scale"] else "")
    if arc := _ARC.search(text):
        return Value(text[: arc.start()], unit=f"arc{primes(arc[0])}")
    bare, unit = _without_unit(text, letters)
    return Value(bare, unit=unit)


def _without_unit(text: str, letters: bool) -> tuple[str, str]:
    rest, unit = text, ""
    for _ in range(4):
        match = _UNIT.search(rest)
        if match is None or (match[3] and not letters) or not _is_unit(match[1] or "", match[2] or ""):
            break
        rest, unit = rest[: match.start()].rstrip(), rest[match.start() :].strip() + unit
    if not re.search(r"[0-9})]$|\\pi$", rest):  # words alone, or a name
        return text, ""
    return rest, re.sub(rf"{_TEXT}|[{{}}\s]|\\cdot", "", unit)


def _is_unit(text: str, word: str) -> bool:
    r"""Return whether a ``\text``, or a bare word, after a value may be a unit: not another value, not a product."""
    word = word.strip(".")
    if not word:
        return not _NO_UNIT.search(text)
    if word.lower() in FUNCTIONS:
        return False
    return is_known(word) or len(word) > 3 or (len(word) == 3 and re.search("[eiou]", word) is not None)  # men, not abc


def _numeral(text: str) -> tuple[str, int]:
    """Return the digits and the base of a text that is a number with a base, else base 0."""
    if low := _LOW_BASE.match(text):
        return _digits(low[1]), _number_base(low[2])
    named = _IN_BASE.search(text)
    before = _BEFORE_BASE.fullmatch(text, 0, named.start()) if named else None
    return (_digits(before[1]), _number_base(named[1])) if named and before else ("", 0)


def _number_base(name: str) -> int:
    if name.isdigit():
        return int(name) if 2 <= int(name) <= 36 else 0
    return _BASES.index(name) + 2


def _digits(text: str) -> str:
    return re.sub(rf"{_TEXT}|\\overline|[(){{}}\s]", "", text)


def has_base(text: str) -> bool:
    """Return whether the text holds a number with a base."""
    return _INNER_BASE.search(text) is not None


def readings(gold: str, answer: str) -> list[tuple[str, str]]:
    """Return (gold, answer) pairs in a common unit, one for each possible meaning; empty if the units differ."""
    gold_value = value(gold, letters=False)
    answer_value = value(answer, letters=not re.search(r"(?<![\\a-zA-Z])[a-zA-Z]", gold))
    if gold_value.percent and not answer_value.percent:  # 28 and 0.28 for 28%
        return [(gold_value.text, answer_value.text), (scaled(gold_value.text, r"\frac{1}{100}"), answer)]
    if answer_value.percent and not gold_value.percent:  # 50% for 0.5, and not for 50
        return [(gold, scaled(answer_value.text, r"\frac{1}{100}"))]
    if gold_value.degrees and not answer_value.degrees and r"\pi" in answer and r"\pi" not in gold:
        return [(gold_value.text, scaled(answer, r"\frac{180}{\pi}"))]
    if answer_value.degrees and not gold_value.degrees and r"\pi" in gold and r"\pi" not in answer:
        return [(gold, scaled(answer_value.text, r"\frac{\pi}{180}"))]
    arcs = gold_value.unit.startswith("arc"), answer_value.unit.startswith("arc")
    if any(arcs) and (gold_value.degrees, answer_value.degrees) == arcs[::-1]:  # 30' for 30 degrees
        return []
    times = factor(gold_value.unit, answer_value.unit)
    if times is None:
        return []
    return [(gold_value.text, answer_value.text if times == 1 else scaled(answer_value.text, fraction(times)))]


def scaled(text: str, by: str) -> str:
    """Return ``by`` times ``text``: a number if both are plain, else a LaTeX product."""
    number, times = plain_number(text), plain_number(by)
    return fraction(number * times) if number is not None and times is not None else rf"{by}\cdot({text})"


def endless(text: str) -> list[str] | None:
    r"""Return the numbers that ``0.333\ldots`` or ``0.\overline{3}`` may be; None for a text without an ellipsis.

    The last digits are taken to repeat if they already do: 333, 1616.
    """
    if match := _REPEATING.match(text):
        return [repeated(match[1], match[2])]
    if not dots(text):
        return None
    match = _ENDLESS.match(text)
    if match is None:
        return []
    start, digits = match.groups()
    blocks = [digits[-length:] for length in range(1, len(digits) // 2 + 1)]
    blocks = [block for block in blocks if digits.endswith(block * (3 if len(block) == 1 else 2))]
    return [repeated(start + digits[: -2 * len(block)], block) for block in blocks] + [start + digits]
