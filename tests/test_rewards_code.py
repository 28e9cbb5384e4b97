"""The code reward: which program is taken from a response, and what counts as its right output."""

from __future__ import annotations

import os
import shutil

import pytest

from archer.errors import DataError, SandboxError
from archer.execution.base import Call, Job, Limits, Outcome, Run, Stdin
from archer.execution.bubblewrap import Bubblewrap
from archer.rewards.code import Code, last_program, same_output, same_value
from archer.types import Problem, Verdict

ADD = {
    "function": "add",
    "tests": [{"arguments": [1, 2], "expected": 3}, {"arguments": [5, 5], "expected": 10}],
}
COUNT = {"function": "count", "tests": [{"arguments": [[1, 2]], "expected": 2}]}  # itertools has one too
DOUBLE = {"tests": [{"stdin": "1\n", "expected": "2\n"}, {"stdin": "4\n", "expected": "8\n"}]}


def problem(gold: object) -> Problem:
    return Problem("p7", "lab", "Write it.", "code", gold)


def ran(value: object = None, stdout: str = "", status: str = "ok") -> Run:
    return Run(status, 0, stdout, "", value, 0.001)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("```python\na\n```", "a\n"),
        ("```py\na\n```", "a\n"),
        ("```Python3\na\n```", "a\n"),
        ("```\na\n```", "a\n"),
        ("``` python \na\n```  ", "a\n"),
        ("```python\na\n```\nthen\n```python\nb\nc\n```\nbye", "b\nc\n"),
        ("```python\na\n```\n```python\nunfinished", "a\n"),
        ("```python\na\n```\n```text\n3 4\n```", "a\n"),
        ("```cpp\nint a;\n```", None),
        ("```cpp\nint a;\n```\n```python\na\n```", "a\n"),
        ("<think>```python\na\n```</think>", None),
        ("<think>```python\na\n```</think>\n```python\nb\n```", "b\n"),
        ("<think>```python\na</think>\n```python\nb\n```", "b\n"),
        ("```python\na\n```</think>x</think>```python\nb\n```", "b\n"),
        ("1. so:\n   ```python\n   if a:\n       b\n   ```", "if a:\n    b\n"),
        ("````python\na\n```\nb\n````", "a\n```\nb\n"),
        ("```python\r\na\r\n```", "a\n"),
        ("```python\n\n```", None),
        ("```python\na\n```\n```python\n```", "a\n"),
        ("use `a` or ```a```", None),
        ("def f(): pass", None),
        ("", None),
    ],
)
def test_last_program(text, program) -> None:
    assert last_program(text) == program


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (1, 1, True),
        (1, 1.0, True),
        (0.1 + 0.2, 0.3, False),
        (2**53 + 1, float(2**53), False),
        (True, 1, False),
        (1, True, False),
        (False, 0, False),
        (True, True, True),
        (True, False, False),
        (None, None, True),
        (None, 0, False),
        (None, False, False),
        ("1", 1, False),
        ("a", "a", True),
        ([1, [2.0]], [1, [2]], True),
        ([1, 2], [1], False),
        ([True], [1], False),
        ([], {}, False),
        ([], None, False),
        ({"a": [1]}, {"a": [1.0]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": True}, {"a": 1}, False),
        (float("nan"), float("nan"), False),
        (float("inf"), float("inf"), True),
    ],
)
def test_same_value(found, expected, same) -> None:
    assert same_value(found, expected) is same


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        ("1 2\n3", "1 2\n3\n", True),
        ("\n\n1 2  \n  3\n\n", "1 2\n3", True),
        ("1.0 2", "1 2.00", True),
        ("1e3", "1000", True),
        ("0.1", "0.10000000001", False),
        ("1  2", "1 2", True),
        ("a  b", "a b", False),
        ("Yes", "YES", False),
        ("1 2 3", "1 2", False),
        ("1\n2", "1 2", False),
        ("1\n\n2", "1\n2", False),
        ("", "", True),
        ("", "0", False),
        ("NaN", "nan", False),
        ("sNaN", "1", False),
        ("1e999999999", "1", False),
    ],
)
def test_same_output(found, expected, same) -> None:
    assert same_output(found, expected) is same


def test_job_holds_inputs_and_no_expected_output() -> None:
    job = Code().job(problem(ADD), "```python\ndef add(a, b): return a + b\n```")
    assert isinstance(job, Job)
    assert (job.program, job.inputs) == (
        "def add(a, b): return a + b\n",
        (Call("add", (1, 2)), Call("add", (5, 5))),
    )
    assert job.go_on is not None
    assert [job.go_on(0, ran(3)), job.go_on(1, ran(3)), job.go_on(0, ran(3, status="error"))] == [
        True,
        False,
        False,
    ]
    double = Code().job(problem(DOUBLE), "```python\n1\n```")
    assert isinstance(double, Job)
    assert double.inputs == (Stdin("1\n"), Stdin("4\n"))


def test_no_program_is_no_answer() -> None:
    assert Code().job(problem(ADD), "It is 3.") == Verdict(0.0, False, "no_answer")


@pytest.mark.parametrize(
    ("runs", "verdict"),
    [
        ((ran(3), ran(10)), Verdict(1.0, True, "right")),
        ((ran(3), ran(11)), Verdict(0.0, False, "wrong")),
        ((ran(4),), Verdict(0.0, False, "wrong")),
        ((ran(3), ran(status="error")), Verdict(0.0, False, "error")),
        ((ran(3, status="memory"),), Verdict(0.0, False, "memory")),
        ((ran(status="cpu_timeout"),), Verdict(0.0, False, "cpu_timeout")),
        ((ran(status="wall_timeout"),), Verdict(0.0, False, "wall_timeout")),
        ((ran(status="output"),), Verdict(0.0, False, "output")),
        ((ran(status="violation"),), Verdict(0.0, False, "violation")),
    ],
)
def test_judge(runs, verdict) -> None:
    assert Code().judge(problem(ADD), Outcome(runs)) == verdict


def test_an_outcome_with_tests_missing_is_no_verdict() -> None:
    with pytest.raises(SandboxError, match="problem p7: 1 runs for 2 tests"):
        Code().judge(problem(ADD), Outcome((ran(3),)))


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ("3", "problem p7: gold: expected"),
        ({}, "problem p7: gold: expected"),
        ({"tests": []}, "problem p7: gold: expected"),
        ({"tests": [3]}, r"problem p7: gold: tests\[0\]: expected an object, found 3"),
        (
            {"tests": [{"stdin": "1"}]},
            r"problem p7: gold: tests\[0\]: 'expected' is missing; its keys are \['stdin'\]",
        ),
        ({"tests": [{"expected": "1"}]}, "'stdin' is missing"),
        ({"tests": [{"stdin": 1, "expected": "1"}]}, "stdin: expected a str, found 1"),
        ({"function": "f", "tests": [{"expected": 1}]}, "'arguments' is missing"),
        (
            {"function": "f", "tests": [{"arguments": 3, "expected": 1}]},
            "arguments: expected a list, found 3",
        ),
        ({"function": 3, "tests": [{}]}, "function: expected a name, found 3"),
    ],
)
def test_malformed_gold(gold, message) -> None:
    with pytest.raises(DataError, match=message):
        Code().job(problem(gold), "```python\n1\n```")


@pytest.mark.parametrize(
    ("gold", "program", "reason"),
    [
        (ADD, "def add(a: int, b: int) -> Optional[int]:\n    return sum([a, b])", "right"),
        (ADD, "class Solution:\n    def add(self, a, b): return a + b", "right"),
        (ADD, "def add(a, b): return pow(a, 1, 1000) + b", "right"),
        (COUNT, "class Solution:\n    def count(self, a): return len(a)", "right"),
        (ADD, "def add(a, b): return 3", "wrong"),
        (ADD, "class E(int):\n    __eq__ = lambda s, o: True\ndef add(a, b): return E(0)", "error"),
        (ADD, "def add(a, b):\n    while True: pass", "cpu_timeout"),
        (ADD, "import sys\nsys.exit(0)", "error"),
        (DOUBLE, "print(int(input()) * 2)", "right"),
        (DOUBLE, "print(float(input()) * 2)", "right"),
        (DOUBLE, "print(2)", "wrong"),
        (DOUBLE, "print(int(input()) * 2)\n1 / 0", "error"),
    ],
)
def test_end_to_end(gold, program, reason) -> None:
    if shutil.which("bwrap") is None and not os.environ.get("CI"):
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    reward = Code(limits=Limits(cpu_seconds=0.5))
    job = reward.job(problem(gold), f"Here it is:\n```python\n{program}\n```\n")
    assert isinstance(job, Job)
    with Bubblewrap(1) as sandbox:
        [(_, outcome)] = sandbox.execute([job])
    assert reward.judge(problem(gold), outcome).reason == reason
