"""Grading a boxed mathematical answer: exact for plain numbers, math-verify 0.9 for the rest.

Pure: no process is started and no clock is read here. math-verify may spend minutes and gigabytes on a
hostile answer, so whatever :meth:`Math.is_plain` does not vouch for is judged in a worker that can be
killed (``archer.grading``).
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from archer.errors import DataError
from archer.types import Json, Problem, Verdict

_THINK = re.compile(r"<think>|</think>")
# A run of backslashes before a brace is matched once, whole: an even run leaves the brace unescaped.
_BRACES = re.compile(r"\\boxed\s*\{|(?<!\\)(\\*)([{}])")

# Between thousands: a comma or a space, as LaTeX writes them.
_SEPARATOR = re.compile(r",\\!|\{,\}|\\[,;! ]|[, ~]")
_DIGITS = rf"[0-9]{{1,3}}(?:(?:{_SEPARATOR.pattern})[0-9]{{3}})+|[0-9]+"
_PLAIN = re.compile(
    rf"(?P<sign>[+-]?)\s*(?:"
    rf"\\[dt]?frac\s*\{{\s*(?P<inner>[+-]?)\s*(?P<over>[0-9]+)\s*\}}\s*\{{\s*(?P<under>[0-9]+)\s*\}}"
    rf"|(?P<top>[0-9]+)\s*/\s*(?P<bottom>[0-9]+)"
    rf"|(?P<number>(?:{_DIGITS})(?:\.[0-9]*)?|\.[0-9]+)(?P<exponent>[eE][+-]?[0-9]{{1,3}})?)"
)
_LONGEST_PLAIN = 2000  # characters; below the length at which int() refuses
_SCIENTIFIC = re.compile(r"\s*([+-]?[0-9]*\.?[0-9]+)[eE]([+-]?[0-9]{1,4})\s*")
_AND = re.compile(r"\\(?:text|mbox|textrm)\s*\{\s*,?\s*(?:and|or)\s*\}|\s(?:and|or)\s")
_OUTER_SET = re.compile(r"(?:\\left)?\\\{(.*?)(?:\\right)?\\\}", re.DOTALL)


def boxed(text: str) -> str | None:
    r"""Return what the last ``\boxed{...}`` with balanced braces holds, after the last ``</think>``.

    None where no box closes, or where a ``<think>`` is open at the end. One pass, linear in the text.
    """
    marks = list(_THINK.finditer(text))
    if marks and marks[-1].group() == "<think>":
        return None
    start = marks[-1].end() if marks else 0
    open_braces: list[tuple[bool, int]] = []
    last: tuple[int, int] | None = None
    for match in _BRACES.finditer(text, start):
        if match[2] is None:
            open_braces.append((True, match.end()))
        elif len(match[1]) % 2:
            continue
        elif match[2] == "{":
            open_braces.append((False, match.end()))
        elif open_braces:
            is_box, begin = open_braces.pop()
            if is_box and (last is None or begin > last[0]):
                last = (begin, match.start(2))
    # A LaTeX space at the end, "\ ", goes with its backslash.
    return text[last[0] : last[1]].rstrip("\\ \t\r\n").lstrip() if last else None


def plain_number(text: str) -> Fraction | None:
    r"""Read an integer, decimal, ``a/b`` or ``\frac{a}{b}`` exactly; None for anything else.

    Sign, leading zeros, separated thousands, ``4.5e33``, spaces and surrounding dollars are allowed.
    """
    if len(text) > _LONGEST_PLAIN:
        return None
    match = _PLAIN.fullmatch(text.strip().strip("$").strip())
    if match is None:
        return None
    part = {name: _SEPARATOR.sub("", value or "") for name, value in match.groupdict().items()}
    over, under = part["over"] or part["top"], part["under"] or part["bottom"]
    if under and not int(under):
        return None
    value = Fraction(int(over), int(under)) if under else Fraction(part["number"] + part["exponent"])
    return -value if (part["sign"] == "-") != (part["inner"] == "-") else value


def plain_equal(gold: str, answer: str) -> bool | None:
    """Compare two plain numbers exactly; None unless both are plain.

    None also for a decimal beside a fraction that no decimal equals (0.333 and 1/3): whether that is
    near enough is not for an exact comparison to say.
    """
    left, right = plain_number(gold), plain_number(answer)
    if left is None or right is None:
        return None
    endless = any(pow(10, _LONGEST_PLAIN, number.denominator) for number in (left, right))
    return None if endless and ("." in gold) != ("." in answer) else left == right


@dataclass(frozen=True)
class Math:
    r"""Is the boxed answer the gold answer?

    - What counts is the text after the last ``</think>``; a ``<think>`` never closed leaves no answer.
      A text without either tag counts whole.
    - The answer is the last ``\boxed{...}`` whose braces close; without one the reason is ``no_answer``.
    - An answer identical to the gold is right. Two plain numbers are compared exactly, without
      rounding. Everything else is math-verify's, which rounds to six decimals (0.333333 for 1/3).
    - A gold list asks for all its members, in any order, each once.
    - ``unparsed``: the answer cannot be read, or is longer than ``longest`` characters.
    """

    right: float = 1.0
    wrong: float = 0.0
    longest: int = 2000

    def __call__(self, problem: Problem, text: str) -> Verdict:
        """Judge one response, in this process and without a time limit.

        Raises :class:`~archer.errors.DataError` when the problem's gold is not a string or list of strings.
        """
        return self.judge(problem.gold, self.extract(text))

    def extract(self, text: str) -> str | None:
        """Return the part of the response that counts; the verdict depends on nothing else of it."""
        return boxed(text)

    def is_plain(self, gold: Json, answer: str | None) -> bool:
        """Say whether :meth:`judge` is cheap here: no math-verify, no bomb."""
        if answer is None or len(answer) > self.longest:
            return True
        golds = _golds(gold)
        if len(golds) == 1:
            return _shortcut(golds[0], answer) is not None
        parts = _members(answer)
        return len(parts) == len(golds) and all(plain_number(item) is not None for item in golds + parts)

    def judge(self, gold: Json, answer: str | None) -> Verdict:
        """Judge an extracted answer; raises as calling does."""
        if answer is None:
            return self.verdict("no_answer")
        if len(answer) > self.longest:
            return self.verdict("unparsed", answer)
        golds = _golds(gold)
        return self.verdict(_reason(golds[0], answer) if len(golds) == 1 else _all(golds, answer), answer)

    def verdict(self, reason: str, answer: str = "") -> Verdict:
        """Price a reason; whoever limits the judging (``timeout``, ``memory``) prices it here too."""
        correct = reason == "right"
        return Verdict(self.right if correct else self.wrong, correct, reason, answer[: self.longest])


def _golds(gold: Json) -> list[str]:
    golds = gold if isinstance(gold, list) else [gold]
    if not golds or not all(isinstance(item, str) and item.strip() for item in golds):
        raise DataError(f"gold: expected a non-empty string or a list of them, found {gold!r}")
    return golds


def _shortcut(gold: str, answer: str) -> bool | None:
    """Right or wrong where that is plain to see; None where math-verify has to decide."""
    return True if answer.strip() == gold.strip() else plain_equal(gold, answer)


def _reason(gold: str, answer: str) -> str:
    equal = _shortcut(gold, answer)
    if equal is None:
        return symbolic(gold, answer)
    return "right" if equal else "wrong"


def _all(golds: list[str], answer: str) -> str:
    """Match every member of the answer with a gold of its own."""
    parts = _members(answer)
    if len(parts) != len(golds):  # perhaps a plus-minus, or an interval's comma: only math-verify can tell
        return symbolic(rf"\{{{', '.join(golds)}\}}", answer)
    left = list(golds)
    for part in parts:
        reasons = [_reason(gold, part) for gold in left]
        if "right" not in reasons:
            return "unparsed" if "unparsed" in reasons else "wrong"
        left.pop(reasons.index("right"))
    return "right"


def _members(answer: str) -> list[str]:
    """Split at the commas, semicolons and "and" that no bracket encloses."""
    text = _AND.sub(", ", answer.strip().strip("$"))
    outer = _OUTER_SET.fullmatch(text.strip())
    text = outer[1] if outer else text
    parts, depth, begin = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character in ",;" and depth == 0 and text[index - 1 : index] != "\\":  # "\," is a thin space
            parts.append(text[begin:index])
            begin = index + 1
    return [part.strip() for part in [*parts, text[begin:]] if part.strip()]


def symbolic(gold: str, answer: str) -> str:
    """Let math-verify decide: ``right``, ``wrong`` or ``unparsed``. May run for minutes: see the module.

    MemoryError passes through: it says something of the process, not yet of the answer.
    """
    _parse, verify = load()
    truth = _read_gold(gold)
    try:
        read = _read(rf"\boxed{{{_standard(answer)}}}")
        if verify(truth, list(read), timeout_seconds=None, raise_on_error=True):
            return "right"
    except MemoryError:
        raise
    except Exception:
        return "unparsed"
    return "wrong" if any(not isinstance(item, str) for item in read) else "unparsed"


def _standard(text: str) -> str:
    """Write ``4.5e33`` as a power of ten: math-verify would read it as 4.5 times e times 33."""
    return _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", text.strip().strip("$"), count=1)


def _read_gold(gold: str) -> list[Any]:
    """Read a gold. Raises DataError where math-verify cannot: that is the data's fault, no answer's."""
    try:
        read = list(_read(f"${_standard(gold)}$"))
    except MemoryError:
        raise
    except Exception as error:
        raise DataError(f"gold: {gold!r} cannot be read: {error}") from error
    if not read:
        raise DataError(f"gold: {gold!r} cannot be read as mathematics")
    return read


@functools.lru_cache(maxsize=4096)  # the gold of a problem is read once for all its samples
def _read(text: str) -> tuple[Any, ...]:
    parse, _verify = load()
    return tuple(parse(text, parsing_timeout=None, raise_on_error=True))


@functools.cache
def load() -> tuple[Callable[..., list[Any]], Callable[..., bool]]:
    """Import math-verify (a second: sympy), so that a worker can pay for it before its first answer."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time-outs are off, as meant
    return parse, verify
