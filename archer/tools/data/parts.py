"""What a source's row is made of, and how its tests are read. All pure.

Everything here raises :class:`~archer.errors.DataError` naming the key and the value of a malformed row.
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
    """A row's problem. ``examples`` are tests that the row itself says the statement shows."""

    statement: str
    gold: Json
    starter: str = ""
    prompt: str = ""
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class UnfitRow:
    """A well-formed row that cannot be graded here, and why: counted by ``reason``."""

    reason: str
    detail: str = ""


def text(row: Row, key: str) -> str:
    """Return a text that is not empty."""
    found = value(row, key, str)
    if not found.strip():
        raise DataError(f"{key}: it is empty")
    return found


def read_tests(found: Any, starter: str = "") -> dict[str, Json]:
    """Return the gold of tests in any of the ways in which they are published, as values or written out as text.

    ``{"inputs": [...], "outputs": [...]}``, with ``fn_name`` where each input is a list of arguments; or a list of
    ``{"input", "output"}`` whose ``type`` is ``stdin_stdout`` or ``function_call`` (with ``fn_name``), or whose
    ``testtype`` is ``stdin`` or ``functional`` as LiveCodeBench writes them.
    """
    found = decoded(found) if isinstance(found, str) else found
    if isinstance(found, Mapping):
        return from_lists(found)
    if not isinstance(found, Sequence) or not found or not all(isinstance(test, Mapping) for test in found):
        raise DataError(f"tests: expected a list of tests or of inputs and outputs, found {str(found)[:80]!r}")
    kinds = {str(test.get("type") or test.get("testtype")) for test in found}
    if len(kinds) > 1:
        raise DataError(f"tests: expected one kind in a row, found {sorted(kinds)}")
    if "testtype" in found[0]:
        return as_livecodebench(found, starter)
    names = {str(test.get("fn_name") or "") for test in found}
    if len(names) > 1 or (kinds <= set(CALL)) != bool(names - {""}):
        raise DataError(f"tests: type {sorted(kinds)} with fn_name {sorted(names)}: which function is called?")
    inputs, outputs = ([value(test, key, object) for test in found] for key in ("input", "output"))
    return from_lists({"inputs": inputs, "outputs": outputs, "fn_name": names.pop() or None})


def decoded(written: str) -> Any:
    """Return a value that a column holds as JSON, or as Python writes it."""
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        try:
            return ast.literal_eval(written)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise DataError(f"tests: neither JSON nor a Python literal: {written[:80]!r}") from error


def from_lists(found: Row) -> dict[str, Json]:
    """Return the gold of a list of inputs and one of outputs."""
    inputs, outputs = value(found, "inputs", list), value(found, "outputs", list)
    if len(inputs) != len(outputs) or not inputs:
        raise DataError(f"tests: expected an output for each input, found {len(inputs)} and {len(outputs)}")
    function = found.get("fn_name")
    if not function:
        pairs = zip(inputs, outputs, strict=True)
        return {
            "tests": [{"stdin": _lines(one, "inputs"), "expected": _lines(other, "outputs")} for one, other in pairs]
        }
    if not isinstance(function, str) or not all(isinstance(one, list) for one in inputs):
        raise DataError(f"tests: {function!r}: expected a function's name and lists of arguments")
    # What the function returns lies in a list of its own in most data sets; it does if all outputs are lists of one.
    wrapped = all(isinstance(one, list) and len(one) == 1 for one in outputs)
    expected = [one[0] for one in outputs] if wrapped else outputs
    tests = [{"arguments": one, "expected": other} for one, other in zip(inputs, expected, strict=True)]
    return {"function": function.rpartition(".")[2], "tests": tests}


def _lines(found: Any, key: str) -> str:
    """Return a program's input or output: a text, or its lines."""
    if isinstance(found, list) and all(isinstance(line, str) for line in found):
        return "\n".join(found) + "\n"
    if not isinstance(found, str):
        raise DataError(f"tests: {key}: expected texts, found {str(found)[:80]!r}")
    return found


def as_livecodebench(tests: Sequence[Row], starter: str) -> dict[str, Json]:
    """Return the gold of tests as LiveCodeBench writes them; they, or their metadata, name the function."""
    named = [decoded(one) if isinstance(one, str) else one for one in (test.get("metadata") for test in tests)]
    metadata = next((one for one in named if isinstance(one, Mapping) and one.get("func_name")), {})
    row = {
        "question_id": "", "question_content": "", "starter_code": starter, "metadata": metadata,
        "public_test_cases": [{**test, "testtype": _kind(test)} for test in tests],
    }  # fmt: skip
    gold: dict[str, Json] = livecodebench.shape(row).gold
    return gold


def _kind(test: Row) -> str:
    kind = test["testtype"]
    return "stdin" if kind in STDIN else "functional" if kind in CALL else str(kind)
