"""Programs judged by what they return or print; expected outputs are compared here, outside the sandbox.

The program is the last complete fence that is marked ``python``, ``py``, ``python3`` or not at all, after
the last ``</think>``. ``gold`` is ``{"function": "f", "tests": [{"arguments": [...], "expected": ...}]}`` or
``{"tests": [{"stdin": "...", "expected": "..."}]}``. Results of calls are compared as JSON values, printed
output as LiveCodeBench does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from archer.errors import DataError, SandboxError
from archer.execution.base import Call, Job, Limits, Outcome, Run, Stdin
from archer.execution.limits import default_limits
from archer.types import Json, Problem, Verdict

LANGUAGES = ("python", "py", "python3", "")
FENCE = re.compile(r"^([ \t]*)(`{3,})[ \t]*([^`]*?)[ \t]*$")
# What the authors of such problems grant: LeetCode's imports. Built-ins last: math.pow is not pow.
PRELUDE = (
    "import bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, string, sys\n"
    "from typing import *; from collections import *; from functools import *; from heapq import *\n"
    "from itertools import *; from bisect import *; from math import *; from builtins import *\n"
)


@dataclass(frozen=True)
class Code:
    """Reward 1 for a program that passes every test; tests end at the first failure.

    ``limits`` None means those of ``sandbox/limits.yaml``; ``prelude`` runs before each program.
    """

    limits: Limits | None = None
    prelude: str = PRELUDE

    def job(self, problem: Problem, text: str) -> Job | Verdict:
        """The job that tests the program in ``text``, or the verdict on a text without one.

        Raises :class:`~archer.errors.DataError` for a malformed gold.
        """
        tests = _tests(problem)
        program = last_program(text)
        if program is None:
            return Verdict(0.0, False, "no_answer")
        inputs = tuple(given for given, _ in tests)
        return Job(program, inputs, self.limits or default_limits(), _GoOn(tests), self.prelude)

    def judge(self, problem: Problem, outcome: Outcome) -> Verdict:
        """The verdict on what the program did; its reason is that of the first test not passed.

        Raises :class:`~archer.errors.SandboxError` for an outcome with tests missing.
        """
        tests = _tests(problem)
        for run, (given, expected) in zip(outcome.runs, tests, strict=False):
            reason = _reason(run, given, expected)
            if reason != "right":
                return Verdict(0.0, False, reason)
        if len(outcome.runs) != len(tests):
            raise SandboxError(f"problem {problem.id}: {len(outcome.runs)} runs for {len(tests)} tests, none failed")
        return Verdict(1.0, True, "right")


def last_program(text: str) -> str | None:
    """Return the last complete Python fence after the last ``</think>``, or None."""
    program, opening, lines = None, None, list[str]()
    for line in text.rpartition("</think>")[2].splitlines():
        fence = FENCE.match(line)
        if opening is None:
            opening, lines = fence, []
        elif fence and not fence[3] and len(fence[2]) >= len(opening[2]):
            if opening[3].lower() in LANGUAGES and any(map(str.strip, lines)):
                program = "\n".join(lines) + "\n"
            opening = None
        else:
            lines.append(line.removeprefix(opening[1]))  # a fence in a list is indented as a whole
    return program


def same_value(found: Json, expected: Json) -> bool:
    """Exact equality of JSON values: 1 equals 1.0, no bool equals a number."""
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(same_value, found, expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same_value(found[key], expected[key]) for key in expected)
    return bool(found == expected)


def same_output(found: str, expected: str) -> bool:
    """LiveCodeBench's rule: stripped lines, equal as text or else word by word as decimal numbers."""
    found_lines, expected_lines = found.strip().split("\n"), expected.strip().split("\n")
    return len(found_lines) == len(expected_lines) and all(map(_same_line, found_lines, expected_lines))


def _same_line(found: str, expected: str) -> bool:
    if found.strip() == expected.strip():
        return True
    try:
        return [Decimal(word) for word in found.split()] == [Decimal(word) for word in expected.split()]
    except InvalidOperation:  # not a number, or a signalling NaN
        return False


def _reason(run: Run, given: Stdin | Call, expected: Json) -> str:
    if run.status != "ok":
        return run.status
    same = same_value(run.value, expected) if isinstance(given, Call) else same_output(run.stdout, expected)
    return "right" if same else "wrong"


@dataclass(frozen=True)
class _GoOn:
    """Whether to go on after a test: a value, not a closure, so that a job can be compared and printed."""

    tests: tuple[tuple[Stdin | Call, Json], ...]

    def __call__(self, index: int, run: Run) -> bool:
        return _reason(run, *self.tests[index]) == "right"


def _tests(problem: Problem) -> tuple[tuple[Stdin | Call, Json], ...]:
    """Each test's input and expected output. Raises DataError naming what is missing."""
    gold = problem.gold
    if not isinstance(gold, Mapping) or not isinstance(gold.get("tests"), list) or not gold["tests"]:
        raise DataError(f"problem {problem.id}: gold: expected {{'tests': [...]}} with a test, found {str(gold)[:80]}")
    function = gold.get("function")
    if function is not None and not (isinstance(function, str) and function):
        raise DataError(f"problem {problem.id}: gold: function: expected a name, found {function!r}")
    return tuple(_test(problem.id, index, test, function) for index, test in enumerate(gold["tests"]))


def _test(problem_id: str, index: int, test: Any, function: str | None) -> tuple[Stdin | Call, Json]:
    place = f"problem {problem_id}: gold: tests[{index}]"
    kinds = {"expected": object, "arguments": list} if function else {"expected": str, "stdin": str}
    if not isinstance(test, Mapping):
        raise DataError(f"{place}: expected an object, found {test!r}")
    for key, kind in kinds.items():
        if key not in test:
            raise DataError(f"{place}: {key!r} is missing; its keys are {sorted(test)}")
        if not isinstance(test[key], kind):
            raise DataError(f"{place}: {key}: expected a {kind.__name__}, found {test[key]!r}")
    if function:
        return Call(function, tuple(test["arguments"])), test["expected"]
    return Stdin(test["stdin"]), test["expected"]
