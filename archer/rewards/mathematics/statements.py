r"""What an answer states: names and values around equals signs, thousands, words of doubt. Pure text."""

from __future__ import annotations

import re

from archer.rewards.mathematics.answers import enclosed, outside, sides, split
from archer.rewards.mathematics.values import value
from archer.rewards.mathematics.wording import DOUBT, TEXT, TEXT_COMMAND, TRIGONOMETRY, poses, words

THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9,])")
_NAME = re.compile(
    r"(?:\\?[a-zA-Z]|'|_\s*\{[^{}]*\}|_\s*\w|[(){}|:,\s]|/|\^\{?-1\}?(?=\()|(?<=[({,])-?[0-9]+(?=[)},])|\^\{?\\circ)+"
)
_CONSTANTS = re.compile(
    r"\\(?:pi|infty|times|cdot|frac|sqrt|binom|left|right|div|ln|log|sin|cos|tan|exp)(?![a-zA-Z])"
    r"|(?<![a-zA-Z])[ei](?![a-zA-Z])"
)
_APPROX = re.compile(r"\\(?:approx|simeq|doteq)(?![a-zA-Z])")
_IN = re.compile(r"^([^\\]+|\\[a-zA-Z]+)\\in(?![a-zA-Z])")
_BUILT = re.compile(r"\\\{\s*[a-zA-Z]\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?::|\||\\mid(?![a-zA-Z]))([^{}|]+)\\\}")
# The variables for which a formula holds are not part of the answer.
_QUALIFIER = re.compile(  # in a text without an equals sign
    rf"(?<![\s,(])[\s,(]*(?:{TEXT_COMMAND}\{{[\s,]*(?:(?:where|for|for all|for every|for each|for any)\s*\}}"
    r"|(?:where|for all|for every|for each)\s)|\\forall(?![a-zA-Z])"
    r"|(?:(?<!,[a-zA-Z]),|,(?=\s))\s*[a-zA-Z](?:,[a-zA-Z])*\s*\\in\s*\\mathbb).*$",
    re.DOTALL,
)
_NUMBERS = re.compile(r"\\mathbb\s*+(?:\{\s*+)?(\w.*)$", re.DOTALL)
_INDEX = re.compile(r"_\s*+(?:\{\s*+)?[0-9]+\s*\}?")
_ANGLE = re.compile(r"(?:\{|(?<![0-9.]))([0-9.]++)\}?\s*\^\\circ")


def refused(gold: str, answer: str) -> bool:
    """Return whether an answer is wrong whatever its value: in doubt, or posing work that the gold does not."""
    doubts = DOUBT.intersection(words(answer)) - set(words(gold))
    return bool(doubts) or not poses(answer) <= poses(gold)


def joined(text: str) -> str:
    """Remove the commas between thousands, as in 1,000, outside brackets."""
    free = {index for index, _character in outside(text)}
    return THOUSANDS.sub(lambda match: match[0].replace(",", "") if match.start() in free else match[0], text)


def stated(text: str) -> str:
    r"""Remove the rounded value after an exact one, and the "x \in" before a set."""
    parts = _APPROX.split(text)
    rounded = len(parts) > 1 and (is_closed(parts[0]) or not is_name(parts[0]))  # not x \approx 5
    return _within(parts[0 if rounded else -1].strip())


def _within(text: str) -> str:
    within = _IN.match(text)
    text = text[within.end() :].strip() if within and is_name(within[1]) else text
    built = _BUILT.fullmatch(text)
    return built[1].strip() if built else text


def unqualified(gold: str, answer: str) -> tuple[str, str]:
    r"""Remove a final "for all x" or ", k \in \mathbb{Z}", unless the two name different sets of numbers."""
    qualifiers = [_QUALIFIER.search(text, text.rfind("=") + 1) for text in (gold, answer)]
    numbers = [_NUMBERS.findall(match[0]) for match in qualifiers if match]
    if all(qualifiers) and numbers[0] != numbers[1]:
        return gold, answer
    gold, answer = (
        text[: match.start()] if match and match.start() else text
        for text, match in zip((gold, answer), qualifiers, strict=True)
    )
    return _within(gold), _within(answer)


def aligned(gold: str, answer: str) -> tuple[str, str]:
    """Write (x, y) = (1, 2) as x = 1, y = 2 if the other text is written so."""
    spread = [_spread(text) for text in (gold, answer)]
    if spread[0] and not spread[1] and len(sides(answer)) > 2:
        return spread[0], answer
    if spread[1] and not spread[0] and len(sides(gold)) > 2:
        return gold, spread[1]
    return gold, answer


def _spread(text: str) -> str:
    equation = sides(text)
    tuples = [enclosed(side) for side in equation]
    if len(equation) != 2 or not all(pair and pair[0] == "()" for pair in tuples):
        return ""
    names, values = (split(pair[1], ",") for pair in tuples if pair)
    return ",".join(map("=".join, zip(names, values, strict=False))) if len(names) == len(values) else ""


def is_name(text: str) -> bool:
    """Return whether a side of an equation only names something: x, f(n), S:T, an angle."""
    return bool(_NAME.fullmatch(TEXT.sub(r"\1", text.strip())))


def is_closed(text: str) -> bool:
    """Return whether a side of an equation is a value by itself."""
    return not re.search(r"[a-zA-Z]", _CONSTANTS.sub("", value(text).text))


def bare_name(name: str) -> str:
    """Write a name without spaces and braces."""
    return re.sub(r"[\s{}]", "", TEXT.sub(r"\1", name))


def numbered(names: list[str]) -> bool:
    r"""Return whether names number the solutions of one unknown: x_1, x_2."""
    return len({_INDEX.sub("", name) for name in names}) == 1


def in_radians(text: str) -> str:
    r"""Write 30^\circ in radians if the text has a trigonometric function; else remove the degree sign."""
    if TRIGONOMETRY.search(text):
        return _ANGLE.sub(r"{\\frac{\1\\pi}{180}}", text)
    return text.replace(r"^\circ", "")
