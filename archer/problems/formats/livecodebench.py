"""LiveCodeBench: contest problems with a date, tested through standard input or by calls of one function.

https://huggingface.co/datasets/livecodebench/code_generation_lite. Rows without private tests are read too:
their gold holds the public tests only, and ``meta["private_tests"]`` is 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from archer.errors import DataError
from archer.problems.formats.sealed import unseal
from archer.problems.formats.shaped import ShapedRow, ask_for_function, ask_for_program, value
from archer.types import Json

KINDS = ("stdin", "functional")


def shape(row: Mapping[str, Any]) -> ShapedRow:
    """Return a row's parts; the tests are the public ones, then the private ones."""
    question, starter = value(row, "question_content", str), value(row, "starter_code", str)
    public = _read_tests(row, "public_test_cases")
    private = _read_tests(row, "private_test_cases") if row.get("private_test_cases") is not None else []
    labels = [f"public_test_cases[{index}]" for index in range(len(public))]
    labels += [f"private_test_cases[{index}]" for index in range(len(private))]
    tests = [_test(test, label) for test, label in zip([*public, *private], labels, strict=True)]
    if not tests:
        raise DataError("public_test_cases: expected a test, found none")
    kinds = sorted({test["testtype"] for test in [*public, *private]})
    if len(kinds) > 1:
        raise DataError(f"public_test_cases: testtype: expected one kind in a row, found {kinds}")
    gold: dict[str, Json] = {"tests": tests}
    if kinds == ["functional"]:
        gold = {"function": _function(row), **gold}
    meta = {key: str(row[key]) for key in ("contest_date", "platform", "difficulty") if key in row}
    meta = {**meta, "cluster": _contest(row), "date": str(row.get("contest_date") or "")[:10]}
    prompt = ask_for_function(question, starter) if starter.strip() else ask_for_program(question)
    return ShapedRow(value(row, "question_id", str), prompt, gold, {**meta, "private_tests": len(private)})


def _contest(row: Mapping[str, Any]) -> str:
    """Return the contest that several problems share; empty if the row does not name it."""
    return f"{row['platform']}/{row['contest_id']}" if row.get("platform") and row.get("contest_id") else ""


def _read_tests(row: Mapping[str, Any], key: str) -> list[Any]:
    """Return the tests under ``key``: a list, its JSON, or (private tests) its sealed JSON."""
    tests = value(row, key, object)
    if isinstance(tests, str):
        text = tests if tests.lstrip().startswith("[") else unseal(tests, key)
        try:
            tests = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{key}: not JSON: {error}; it starts with {text[:80]!r}") from error
    if not isinstance(tests, list):
        raise DataError(f"{key}: expected a list of tests, found {str(tests)[:80]!r}")
    return tests


def _test(test: Any, label: str) -> dict[str, Json]:
    if not isinstance(test, Mapping):
        raise DataError(f"{label}: expected an object, found {str(test)[:80]!r}")
    try:
        given, expected, kind = (value(test, key, str) for key in ("input", "output", "testtype"))
        if kind == "stdin":
            return {"stdin": given, "expected": expected}
        if kind != "functional":
            raise DataError(f"testtype: expected one of {', '.join(KINDS)}, found {kind!r}")
        arguments = [_json(line, "input") for line in given.split("\n") if line.strip()]
        return {"arguments": arguments, "expected": _json(expected, "output")}
    except DataError as error:
        raise DataError(f"{label}: {error}") from error


def _json(text: str, key: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{key}: expected JSON, found {text[:80]!r}: {error}") from error


def _function(row: Mapping[str, Any]) -> str:
    metadata = value(row, "metadata", object)
    contents = _json(metadata, "metadata") if isinstance(metadata, str) else metadata
    name = contents.get("func_name") if isinstance(contents, Mapping) else None
    if not isinstance(name, str) or not name.isidentifier():
        raise DataError(f"metadata: func_name: expected the function's name, found {str(metadata)[:80]!r}")
    return name
