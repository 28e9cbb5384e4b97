"""Contest problems with a list of inputs and one of outputs, as rllm publishes CodeContests, TACO and APPS."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from archer.errors import DataError
from archer.problems.formats.shaped import ShapedRow, ask_for_program, value


def shape(row: Mapping[str, Any]) -> ShapedRow:
    """Return a row's parts; ``tests`` is ``{"inputs": [...], "outputs": [...]}``, its JSON or its Python source."""
    statement, tests = value(row, "problem", str), _read(value(row, "tests", object))
    inputs, outputs = _texts(tests, "inputs"), _texts(tests, "outputs")
    if len(inputs) != len(outputs) or not inputs:
        raise DataError(f"tests: expected an output for each input, found {len(inputs)} and {len(outputs)}")
    pairs = [{"stdin": given, "expected": expected} for given, expected in zip(inputs, outputs, strict=True)]
    return ShapedRow("", ask_for_program(statement), {"tests": pairs})


def _read(tests: Any) -> Mapping[str, Any]:
    if isinstance(tests, str):
        text = tests
        try:
            tests = json.loads(text)
        except (ValueError, RecursionError):
            try:
                tests = ast.literal_eval(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
                raise DataError(f"tests: neither JSON nor a Python literal: {text[:80]!r}") from error
    if not isinstance(tests, Mapping):
        raise DataError(f"tests: expected {{'inputs': [...], 'outputs': [...]}}, found {str(tests)[:80]!r}")
    return tests


def _texts(tests: Mapping[str, Any], key: str) -> list[str]:
    try:
        texts = value(tests, key, list)
    except DataError as error:
        raise DataError(f"tests: {error}") from error
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"tests: {key}[{index}]: expected a str, found {str(text)[:80]!r}")
    return texts
