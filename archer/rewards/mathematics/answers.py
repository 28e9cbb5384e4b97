r"""Which part of a response is the answer, and how an answer is laid out: lists, brackets, equations. Pure text."""

from __future__ import annotations

import re
from collections.abc import Iterator

_THINK = re.compile(r"<think>|</think>")
# A run of backslashes before a brace is matched once, whole: an even run leaves the brace unescaped.
_BRACES = re.compile(r"\\boxed\s*\{|(?<!\\)(\\*)([{}])")
_GAP = r"(?:[ \t$&]|\n(?!\s*\n)|\\[()\[\],;: ]|\\q?quad\b)*"
# What may stand between two boxes of one answer: a comma, "and", "or"; a unit before, a name after it.
_JOIN = re.compile(
    rf"{_GAP}(?:[A-Za-z]+{_GAP})?(?:[,;]{_GAP}(?:(?:\\text\s*\{{[^{{}}]*\}}|and|or){_GAP})?|(?:and|or"
    rf"|\\text\s*\{{(?=[^{{}}]*\b(?:and|or)\b)[^{{}}]*\}}){_GAP})(?:[A-Za-z](?:_\{{?\w+\}}?)?(?:\(\w+\))?\s*={_GAP})?"
)
_LONGEST_JOIN = 80
_AND = re.compile(
    r"(?:,|(?<!\s))\s*+\\(?:text|mbox|textrm|mathrm)\s*\{\s*+(?:,\s*+)?(?:and|or)\s*\}"
    r"|(?:(?:,|(?<!\s))\s++|(?<=[)\]\d]))(?:and|or)(?![a-z])"
)
_SIGNS = re.compile(r"\\([pm])[mp](?![a-zA-Z])")
_EQUALS = re.compile(r"(?<![<>!:\\])=(?![<>=])")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def boxed(text: str, opened: bool = False) -> str | None:
    r"""Return the content of the last ``\boxed{...}`` with balanced braces after the last ``</think>``.

    Boxes joined by a comma, "and" or "or" are one answer, a list. None if no box closes, or if a ``<think>`` is
    still open at the end; ``opened`` means that the prompt opened one. One pass, linear in the text.
    """
    boxes = _boxes(text, opened)
    if not boxes:
        return None
    first, inside, end = boxes[-1]
    contents = [_trimmed(text[inside:end])]
    for begin, inside, end in reversed(boxes[:-1]):
        if end >= first:  # it encloses a later box
            continue
        if first - end > _LONGEST_JOIN or not _JOIN.fullmatch(text, end + 1, first):
            break
        contents.append(_trimmed(text[inside:end]))
        first = begin
    return ", ".join(dict.fromkeys(reversed(contents)))


def last_boxed(text: str) -> str | None:
    """Return the content of the last box alone, even if others are joined to it; None as for :func:`boxed`."""
    boxes = _boxes(text, opened=False)
    return _trimmed(text[boxes[-1][1] : boxes[-1][2]]) if boxes else None


def _boxes(text: str, opened: bool) -> list[tuple[int, int, int]]:
    """Return the index at which each closed box begins, its content begins and its content ends, in order."""
    marks = list(_THINK.finditer(text))
    if marks[-1].group() == "<think>" if marks else opened:
        return []
    start = marks[-1].end() if marks else 0
    open_braces: list[tuple[int, int]] = []
    boxes = []
    for match in _BRACES.finditer(text, start):
        if match[2] is None:
            open_braces.append((match.start(), match.end()))
        elif len(match[1]) % 2:
            continue
        elif match[2] == "{":
            open_braces.append((-1, match.end()))
        elif open_braces:
            begin, inside = open_braces.pop()
            if begin >= 0:
                boxes.append((begin, inside, match.start(2)))
    return sorted(boxes)


def _trimmed(text: str) -> str:
    return text.rstrip("\\ \t\r\n").lstrip()  # a LaTeX space at the end, "\ ", goes with its backslash


def outside(text: str) -> Iterator[tuple[int, str]]:
    """Yield the characters that no bracket encloses, with their indices. ``[0, 1)`` closes like ``[0, 1]``."""
    depth = 0
    for index, character in enumerate(text):
        if character in ")]}":
            depth = max(depth - 1, 0)
        elif character in "([{":
            depth += 1
        elif depth == 0:
            yield index, character


def split(text: str, marks: str) -> list[str]:
    """Split at the marks that no bracket encloses and no backslash precedes."""
    parts, begin = [], 0
    for index, character in outside(text):
        if character in marks and text[index - 1 : index] != "\\":
            parts.append(text[begin:index])
            begin = index + 1
    return [part.strip() for part in [*parts, text[begin:]] if part.strip()]


def members(text: str) -> list[str]:
    r"""Split a list or ``\{...\}`` at its commas, semicolons and "and"; ``a \pm b`` is two members."""
    inner = enclosed(text)
    text = inner[1] if inner and inner[0] == r"\{\}" else text
    text = _AND.sub(", ", text)
    groups = split(text, ";")
    if len(groups) > 1 and all(len(split(group, ",")) > 1 for group in groups):  # p=5,q=2;p=7,q=2: pairs
        return [f"({group})" for group in groups]
    return [sign for part in split(text, ",;") for sign in _signs(part)]


def both_signs(text: str) -> str:
    r"""Write ``(\pm 1, \mp 1)`` as the list ``(+1, -1), (-1, +1)``; any other text stays."""
    inner = enclosed(text)
    return ", ".join(_signs(text)) if inner and inner[0] == "()" else text


def _signs(part: str) -> list[str]:
    if not _SIGNS.search(part):
        return [part]
    upper = _SIGNS.sub(lambda sign: "+" if sign[1] == "p" else "-", part)
    lower = _SIGNS.sub(lambda sign: "-" if sign[1] == "p" else "+", part)
    return [upper, lower]


def enclosed(text: str) -> tuple[str, str] | None:
    r"""Return the brackets around the whole text (``()``, ``[)``, ``\{\}``, ...) and what they enclose, or None."""
    opening = 2 if text.startswith(r"\{") else 1
    if len(text) < 2 * opening or text[opening - 1] not in _CLOSING or text[-1] not in ")]}":
        return None
    if (opening == 2) != text.endswith(r"\}") or (text[-1] == "}") != (text[opening - 1] == "{"):
        return None
    depth = 0
    for index, character in enumerate(text[:-1]):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and index >= opening - 1:
            return None
    return text[:opening] + text[-opening:], text[opening:-opening].strip()


def sides(text: str) -> list[str]:
    """Split at the equals signs that no bracket encloses."""
    indices = {index for index, character in outside(text) if character == "="}
    parts, begin = [], 0
    for match in _EQUALS.finditer(text):
        if match.start() in indices:
            parts.append(text[begin : match.start()].strip())
            begin = match.end()
    return [*parts, text[begin:].strip()]
