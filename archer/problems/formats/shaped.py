"""What formats share: the parts of a row, typed access to its keys, and prompts that ask for programs."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from archer.errors import DataError, did_you_mean
from archer.types import Json

T = TypeVar("T")


@dataclass(frozen=True)
class ShapedRow:
    """The parts of a problem. ``id`` is empty if rows have no name; then their number names them."""

    id: str
    prompt: str
    gold: Json
    meta: dict[str, Json] = field(default_factory=dict)
    system: str = ""


def value(row: Mapping[str, Any], key: str, kind: type[T]) -> T:
    """Return ``row[key]``. Raises DataError if it is missing or not a ``kind``."""
    if key not in row:
        raise DataError(f"no key {key!r}{did_you_mean(key, row)}")
    item = row[key]
    if not isinstance(item, kind):
        raise DataError(f"{key}: expected a {kind.__name__}, found {str(item)[:200]!r}")
    return item


def parsed(code: str, key: str) -> ast.Module:
    """Return the syntax tree of a row's code. Raises DataError."""
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise DataError(f"{key}: not Python: {error}; it starts with {code[:80]!r}") from error


def source(code: str, node: ast.AST) -> str:
    """Return a node's source text, which unlike ``ast.unparse`` is the same on every Python."""
    text = ast.get_source_segment(code, node)
    assert text is not None, "the node is not of this code"
    return text


def literal(node: ast.expr, key: str) -> Json:
    """Return the JSON value that an expression spells out. Raises DataError."""
    try:
        item = ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise DataError(f"{key}: expected a literal, found {ast.unparse(node)[:200]!r}") from error
    if not _is_json(item):
        raise DataError(f"{key}: expected a JSON value, found {item!r}")
    return item


def _is_json(data: Any) -> bool:
    if isinstance(data, list):
        return all(map(_is_json, data))
    if isinstance(data, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in data.items())
    return data is None or isinstance(data, bool | int | float | str)


def ask_for_function(statement: str, starter: str) -> str:
    """Return a prompt for a problem whose starter code is to be completed."""
    return (
        f"{statement.strip()}\n\nSolve this in Python. Start from the code below and keep its names; put the whole "
        f"program in one code block marked python.\n\n```python\n{starter.strip()}\n```"
    )


def ask_for_program(statement: str) -> str:
    """Return a prompt for a program from standard input to standard output."""
    return (
        f"{statement.strip()}\n\nSolve this with a Python program that reads standard input and prints nothing but "
        "the answer. Put the whole program in one code block marked python."
    )
