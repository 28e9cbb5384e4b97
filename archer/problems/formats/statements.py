"""Normalizes mathematical problems, so that the same problem from two sources is the same text.

Copies of a data set differ in line ends, in Unicode forms, in doubled spaces around formulas and in how they
write an answer: ``27.0``, ``073``, ``$\\frac{41}{12}$``. These differences are removed here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from archer.errors import DataError
from archer.problems.formats.shaped import ShapedRow
from archer.types import Json

PROBLEM = ("problem", "question", "Problem", "Question")
SPACES = re.compile(r"[ \t\u00a0]+")
WHOLE = re.compile(r"([+-]?)0*([0-9]+)(?:\.0+)?")
CONTEST = re.compile(r"(20[0-9]{2})_((?:AIME|AMC)_[0-9A-Z]+)_Problems")
YEAR_ROUND = re.compile(r"(20[0-9]{2})-(I{1,2})-[0-9]+")


def column(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the value of the first of these columns that is not None. Raises DataError naming the row's columns."""
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise DataError(f"expected a column {' or '.join(map(repr, names))}, found {', '.join(sorted(map(str, row)))}")


def statement(row: Mapping[str, Any]) -> str:
    """Return the problem's normalized text. Raises DataError if there is none."""
    text = tidy(column(row, PROBLEM))
    if not text:
        raise DataError(f"{PROBLEM[0]}: it is empty")
    return text


def tidy(content: Any) -> str:
    """Return a text in NFC with plain line ends, single spaces and none around lines. Raises DataError for no text."""
    if not isinstance(content, str):
        raise DataError(f"expected a text, found {str(content)[:80]!r}")
    lines = unicodedata.normalize("NFC", content).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(SPACES.sub(" ", line).strip() for line in lines).strip()


def answer(content: Any) -> str:
    """Return an answer as LaTeX without dollars around it; a whole number as its digits. Raises DataError."""
    text = str(content) if isinstance(content, int | float) and not isinstance(content, bool) else tidy(content)
    if text.startswith("$") and text.endswith("$") and text.count("$") == 2:
        text = text[1:-1].strip()
    whole = WHOLE.fullmatch(text)
    text = whole[1].replace("+", "") + whole[2] if whole else text
    if not text:
        raise DataError("the answer is empty")
    return text


def integer(content: Any) -> str:
    """Return an answer that must be a whole number, perhaps with separated thousands. Raises DataError."""
    text = answer(content)
    bare = text.replace(",", "") if re.fullmatch(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+", text) else text
    if not re.fullmatch(r"-?[0-9]+", bare):
        raise DataError(f"expected a whole number, found {text!r}")
    return bare


def contest(row: Mapping[str, Any]) -> str:
    """Return the contest that a row's link or id names, as ``2024 AIME I``; empty if neither does."""
    link = CONTEST.search(str(row.get("url") or ""))
    if link:
        return f"{link[1]} {link[2].replace('_', ' ')}"
    named = YEAR_ROUND.fullmatch(str(row.get("ID") or row.get("id") or ""))
    return f"{named[1]} AIME {named[2]}" if named else ""


def problem(row: Mapping[str, Any], gold: Json, name: str = "", cluster: str = "", **meta: Json) -> ShapedRow:
    """Return the parts of a mathematical problem's row."""
    return ShapedRow(name, statement(row), gold, {"cluster": cluster, "date": "", **meta})
