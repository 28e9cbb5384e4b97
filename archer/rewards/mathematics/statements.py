r"""What an answer states: names and values around equals signs, thousands, words that take it back. Pure text."""

from __future__ import annotations

import re

from archer.rewards.mathematics.answers import outside
from archer.rewards.mathematics.values import value
from archer.rewards.mathematics.wording import DOUBT, TEXT, TRIGONOMETRY, poses, words

THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9,])")
_NAME = re.compile(
    r"(?:\\?[a-zA-Z]+|'|_\s*\{[^{}]*\}|_\s*\w|[(){}|:,\s]|/|(?<=[({,])-?[0-9]+(?=[)},])|\^\{?\\circ\}?)+"
)
_CONSTANTS = re.compile(
    r"\\(?:pi|infty|times|cdot|frac|sqrt|binom|left|right|div|ln|log|sin|cos|tan|exp)(?![a-zA-Z])"
    r"|(?<![a-zA-Z])[ei](?![a-zA-Z])"
)
_APPROX = re.compile(r"\\(?:approx|simeq|doteq)(?![a-zA-Z])")
_IN = re.compile(r"^([^\\]+|\\[a-zA-Z]+)\\in(?![a-zA-Z])")


def refused(gold: str, answer: str) -> bool:
    """Say whether an answer is one whatever its value: doubtful, a question put back, an ellipsis for a value."""
    doubts = DOUBT.intersection(words(answer)) - set(words(gold))
    return bool(doubts) or not poses(answer) <= poses(gold)


def joined(text: str) -> str:
    """Read 1,000 as a number, where no bracket encloses it."""
    free = {index for index, _character in outside(text)}
    return THOUSANDS.sub(lambda match: match[0].replace(",", "") if match.start() in free else match[0], text)


def stated(text: str) -> str:
    r"""Return what is stated: not the rounded value after it, not the "x \in" before it."""
    parts = _APPROX.split(text)
    text = parts[0].strip() if len(parts) > 1 and not is_name(parts[0]) else parts[-1].strip()
    within = _IN.match(text)
    return text[within.end() :].strip() if within and is_name(within[1]) else text


def is_name(text: str) -> bool:
    """Say whether a side of an equation only names something: x, f(n), S:T, an angle."""
    return bool(_NAME.fullmatch(TEXT.sub(r"\1", text.strip())))


def is_closed(text: str) -> bool:
    """Say whether a side of an equation is a value by itself."""
    return not re.search(r"[a-zA-Z]", _CONSTANTS.sub("", value(text).text))


def bare_name(name: str) -> str:
    """Write a name without spaces and braces."""
    return re.sub(r"[\s{}]", "", TEXT.sub(r"\1", name))


def numbered(names: list[str]) -> bool:
    r"""Say whether names tell solutions of one unknown apart: x_1, x_2."""
    return len({re.sub(r"_\s*\{?\s*[0-9]+\s*\}?", "", name) for name in names}) == 1


def in_radians(text: str) -> str:
    r"""Write 30^\circ as an angle in radians where it is a function's argument; elsewhere drop the sign."""
    if TRIGONOMETRY.search(text):
        return re.sub(r"\{?([0-9.]+)\}?\s*\^\\circ", r"{\\frac{\1\\pi}{180}}", text)
    return text.replace(r"^\circ", "")
