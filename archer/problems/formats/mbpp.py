"""MBPP: short tasks with three assertions, which are shown in the prompt because they alone name the function.

https://github.com/google-research/google-research/tree/master/mbpp. The test split is task 11 to 510.
An assertion that needs more than the function's result (task 596: ``sys.getsizeof``) is replayed.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping
from typing import Any

from archer.errors import DataError
from archer.problems.formats.shaped import ShapedRow, parsed, value
from archer.rewards.assertions import CALLS, split
from archer.types import Json

SPLITS = {"prompt": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}


def shape(row: Mapping[str, Any]) -> ShapedRow:
    """Return a row's parts; the function is the first that the first assertion calls, built-ins aside."""
    task, number = value(row, "text", str), value(row, "task_id", int)
    setup, asserts = value(row, "test_setup_code", str).strip(), value(row, "test_list", list)
    if not asserts or not all(isinstance(text, str) for text in asserts):
        raise DataError(f"test_list: expected a list of assertions, found {asserts!r}")
    asserts = [text.strip() for text in asserts]
    function = _function(asserts[0])
    tests = [_test(text, function, setup, index) for index, text in enumerate(asserts)]
    gold: dict[str, Json] = {"function": function, "tests": tests}
    if setup:
        gold["setup"] = setup
    shown = "\n".join([*setup.splitlines(), *asserts])
    prompt = (
        f"{task.strip()}\n\nSolve this in Python, in one code block marked python. These tests must pass after it:"
        f"\n\n```python\n{shown}\n```"
    )
    return ShapedRow(str(number), prompt, gold)


def in_split(row: Mapping[str, Any], split: str) -> bool:
    """Return whether a row's ``task_id`` is in this split. Raises DataError for an unknown split."""
    if split not in SPLITS:
        raise DataError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}")
    return value(row, "task_id", int) in SPLITS[split]


def reference(row: Mapping[str, Any]) -> str:
    """Return the data set's own solution."""
    return value(row, "code", str)


def _function(text: str) -> str:
    calls = [node.func for node in ast.walk(parsed(text, "test_list[0]")) if isinstance(node, ast.Call)]
    names = [call.id for call in calls if isinstance(call, ast.Name)]
    own = [name for name in names if name not in CALLS] or names  # one task's function is called sum
    if not own:
        raise DataError(f"test_list[0]: expected an assertion that calls a function, found {text!r}")
    return own[0]


def _test(text: str, function: str, setup: str, index: int) -> dict[str, Json]:
    names = {node.id for node in ast.walk(parsed(text, f"test_list[{index}]")) if isinstance(node, ast.Name)}
    try:
        decidable = split(text, function) is not None
    except DataError as error:
        raise DataError(f"test_list[{index}]: {error}") from error
    if function not in names:
        raise DataError(f"test_list[{index}]: expected an assertion about {function}, found {text!r}")
    if decidable:
        return {"assert": text}
    return {"check": f"{setup}\ndef check(candidate):\n{textwrap.indent(text, '    ')}\n"}
