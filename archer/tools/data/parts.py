"""The parts of a source's row, and how its tests are read. All pure.

Every function raises :class:`~archer.errors.DataError` naming the key and the value of a malformed row.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archer.errors import DataError
from archer.problems.formats import livecodebench
from archer.problems.formats.shaped import value
from archer.tools.data.examples import Example
from archer.types import Json

Row = Mapping[str, Any]
STDIN = ("stdin_stdout", "stdin")
CALL = ("function_call", "functional")


@dataclass(frozen=True)
class ParsedRow:
    """A row's problem. ``examples`` are tests that the row marks as shown in the statement."""

    statement: str
    gold: Json
    starter: str = ""
    prompt: str = ""
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class UnfitRow:
    """A well-formed row that cannot be graded here; ``reason`` is counted."""

    reason: str
    detail: str = ""


def text(row: Row, key: str) -> str:
    """Return a non-empty text."""
    cell = value(row, key, str)
    if not cell.strip():
        raise DataError(f"{key}: it is empty")
    return cell


def read_tests(tests: Any, starter: str = "") -> dict[str, Json]:
    """Return the gold of tests in any published form, as values or as JSON or Python text.

    ``{"inputs": [...], "outputs": [...]}``, with ``fn_name`` if each input is a list of arguments; or a list of
    ``{"input", "output"}`` whose ``type`` is ``stdin_stdout`` or ``function_call`` (with ``fn_name``), or whose
    ``testtype`` is ``stdin`` or ``functional`` as LiveCodeBench writes them.
    """
    tests = decoded(tests) if isinstance(tests, str) else tests
    if isinstance(tests, Mapping):
        return from_lists(tests)
    if not isinstance(tests, Sequence) or not tests or not all(isinstance(test, Mapping) for test in tests):
        raise DataError(f"tests: expected a list of tests or of inputs and outputs, found {str(tests)[:80]!r}")
    kinds = {str(test.get("type") or test.get("testtype")) for test in tests}
    if len(kinds) > 1:
        raise DataError(f"tests: expected one kind in a row, found {sorted(kinds)}")
    if "testtype" in tests[0]:
        return as_livecodebench(tests, starter)
    names = {str(test.get("fn_name") or "") for test in tests}
    if len(names) > 1 or (kinds <= set(CALL)) != bool(names - {""}):
        raise DataError(f"tests: type {sorted(kinds)} with fn_name {sorted(names)}: which function is called?")
    inputs, outputs = ([value(test, key, object) for test in tests] for key in ("input", "output"))
    return from_lists({"inputs": inputs, "outputs": outputs, "fn_name": names.pop() or None})


def decoded(written: str) -> Any:
    """Return the value of a column written as JSON or as a Python literal."""
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        try:
            return ast.literal_eval(written)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise DataError(f"tests: neither JSON nor a Python literal: {written[:80]!r}") from error


def from_lists(lists: Row) -> dict[str, Json]:
    """Return the gold of a list of inputs and a list of outputs."""
    inputs, outputs = value(lists, "inputs", list), value(lists, "outputs", list)
    if len(inputs) != len(outputs) or not inputs:
        raise DataError(f"tests: expected an output for each input, found {len(inputs)} and {len(outputs)}")
    function = lists.get("fn_name")
    if not function:
        pairs = zip(inputs, outputs, strict=True)
        return {
            "tests": [{"stdin": _lines(given, "inputs"), "expected": _lines(want, "outputs")} for given, want in pairs]
        }
    if not isinstance(function, str) or not all(isinstance(given, list) for given in inputs):
        raise DataError(f"tests: {function!r}: expected a function's name and lists of arguments")
    # Most data sets wrap the returned value in a list; this one does if all outputs are lists of one item.
    wrapped = all(isinstance(want, list) and len(want) == 1 for want in outputs)
    expected = [want[0] for want in outputs] if wrapped else outputs
    tests = [{"arguments": given, "expected": want} for given, want in zip(inputs, expected, strict=True)]
    return {"function": function.rpartition(".")[2], "tests": tests}


def _lines(cell: Any, key: str) -> str:
    """Return a program's input or output, which is given as a text or as its lines."""
    if isinstance(cell, list) and all(isinstance(line, str) for line in cell):
        return "\n".join(cell) + "\n"
    if not isinstance(cell, str):
        raise DataError(f"tests: {key}: expected texts, found {str(cell)[:80]!r}")
    return cell


def as_livecodebench(tests: Sequence[Row], starter: str) -> dict[str, Json]:
    """Return the gold of tests in LiveCodeBench's form; the tests or their metadata name the function."""
    named = [decoded(noted) if isinstance(noted, str) else noted for noted in (test.get("metadata") for test in tests)]
    metadata = next((noted for noted in named if isinstance(noted, Mapping) and noted.get("func_name")), {})
    row = {
        "question_id": "", "question_content": "", "starter_code": starter, "metadata": metadata,
        "public_test_cases": [{**test, "testtype": _kind(test)} for test in tests],
    }  # fmt: skip
    gold: dict[str, Json] = livecodebench.shape(row).gold
    return gold


def _kind(test: Row) -> str:
    kind = test["testtype"]
    return "stdin" if kind in STDIN else "functional" if kind in CALL else str(kind)
