"""The code reward: which program is taken from a response, and what counts as its right output."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from archer.errors import DataError, SandboxError, UserError
from archer.rewards.code import CodeReward, draw_tests, last_program, same_output, same_value
from archer.rewards.prelude import PRELUDE
from archer.sandbox.base import Call, Expression, Input, Limits, Outcome, ProgramJob, ProgramRun, Stdin
from archer.sandbox.bubblewrap import BubblewrapExecutor
from archer.types import Problem, Verdict

ADD = {
    "function": "add",
    "tests": [{"arguments": [1, 2], "expected": 3}, {"arguments": [5, 5], "expected": 10}],
}
COUNT = {"function": "count", "tests": [{"arguments": [[1, 2]], "expected": 2}]}  # itertools has one too
PAIR = {
    "function": "pair",
    "setup": "one = 1",
    "tests": [{"assert": "assert tuple(pair(one)) == (1, 2) and pair(2) == [2, 3], 'no'"}],
}
DOUBLE = {"tests": [{"stdin": "1\n", "expected": "2\n"}, {"stdin": "4\n", "expected": "8\n"}]}


def problem(gold: object) -> Problem:
    return Problem("p7", "lab", "Write it.", "code", gold)


def asked(job: ProgramJob, *runs: ProgramRun) -> tuple[list[Input], object]:
    """What a job's script asks for when it is given these runs, and what it returns."""
    script, inputs = job.script(), []
    try:
        inputs.append(next(script))
        for run in runs:
            inputs.append(script.send(run))
    except StopIteration as end:
        return inputs, end.value
    return inputs, "unfinished"


def ran(value: object = None, stdout: str = "", status: str = "ok") -> ProgramRun:
    return ProgramRun(status, 0, stdout, "", value, 0.001)  # type: ignore[arg-type]


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
        ("<think>```python\na\n```\n", None),
        ("```python\na\n```\n<think>", None),
        ("a draft:\n```python\na\n```\n</think>\nIt works.", None),
        ("```python\nprint('<think>')\n```\n</think>\n```python\nprint('<think>')\n```", "print('<think>')\n"),
        ("1. so:\n   ```python\n   if a:\n       b\n   ```", "if a:\n    b\n"),
        ("````python\na\n```\nb\n````", "a\n```\nb\n"),
        ("```python\r\na\r\n```", "a\n"),
        ("```python\nx = 'a\u2028b\x85c\x0cd'\n```", "x = 'a\u2028b\x85c\x0cd'\n"),  # no ends of lines in Python
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
        (True, 1, True),
        (0, False, True),
        (0.1 + 0.2, 0.3, False),
        (2**53 + 1, float(2**53), False),
        (None, None, True),
        (None, 0, False),
        ("1", 1, False),
        ("a", "a", True),
        ([1, [2.0]], [1, [2]], True),
        ([1, 2], [1], False),
        ((1, 2), [1, 2], True),
        ((1, (2,)), [1, [2]], False),
        ([(1, 2)], [[1, 2]], False),
        ((), [], True),
        ({1, 2}, [1, 2], False),
        ([], {}, False),
        ([], None, False),
        ({"a": [1]}, {"a": [1.0]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({1: 1}, {"1": 1}, False),
        (float("nan"), float("nan"), False),
        ([float("nan")], [float("nan")], False),
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
        ("1 x", "1.0 x", False),
        ("9" * 1_000_000 + " 1", "9", False),
    ],
)
def test_same_output(found, expected, same) -> None:
    assert same_output(found, expected) is same


def job(gold: object, program: str = "pass", reward: CodeReward | None = None) -> ProgramJob:
    made = (reward or CodeReward()).job(problem(gold), f"```python\n{program}\n```")
    assert isinstance(made, ProgramJob)
    return made


def test_a_script_stops_at_the_first_test_not_passed() -> None:
    first, second = Call("add", (1, 2)), Call("add", (5, 5))
    assert asked(job(ADD), ran(3), ran(10)) == ([first, second], "right")
    assert asked(job(ADD), ran(3)) == ([first, second], "unfinished")
    assert asked(job(ADD), ran(4)) == ([first], "wrong")
    assert asked(job(ADD), ran(status="error")) == ([first], "error")
    assert asked(job(DOUBLE), ran(stdout="2"), ran(stdout="9")) == ([Stdin("1\n"), Stdin("4\n")], "wrong")


def test_a_script_can_run_every_test_and_says_the_same() -> None:
    every = CodeReward(stop_at_first=False)
    calls = [Call("add", (1, 2)), Call("add", (5, 5))]
    assert asked(job(ADD, reward=every), ran(status="memory"), ran(11)) == (calls, "memory")
    assert asked(job(ADD, reward=every), ran(4), ran(10)) == (calls, "wrong")
    assert asked(job(ADD, reward=every), ran(3), ran(10)) == (calls, "right")


def test_an_assertion_asks_for_its_calls_and_never_for_what_is_expected() -> None:
    one, two = Expression("pair(one)", "one = 1"), Expression("pair(2)", "one = 1")
    assert asked(job(PAIR), ran([1, 2]), ran([2, 3])) == ([one, two], "right")
    assert asked(job(PAIR), ran((1, 2)), ran((2, 3))) == ([one, two], "wrong")
    assert asked(job(PAIR), ran([1, 2]), ran(status="error")) == ([one, two], "error")
    assert asked(job(PAIR), ran(status="output")) == ([one], "output")


def test_a_job_is_a_value_and_holds_the_prefix_in_the_same_file() -> None:
    assert job(ADD, "x = 1").program == "x = 1\n"
    assert job({**ADD, "prefix": "import os\n"}, "x = 1").program == "import os\n\nx = 1\n"
    future = "from __future__ import annotations\n"
    assert job({**ADD, "prefix": "import os\n"}, f"'''Words.'''\n{future}x = 1").program == (
        f"{future}import os\n\n'''Words.'''\nx = 1\n"
    )
    assert job(ADD) == job(ADD)
    assert job(ADD) != job(COUNT)


def test_a_script_knows_its_most_inputs_where_the_tests_tell() -> None:
    printed = {"stdin": "1", "expected": "1"}
    asserted = {"assert": "assert f(1) == f(2) + 1"}
    checked = {"check": "def check(candidate):\n    assert candidate(1) == 1"}
    assert job({"tests": [printed, printed]}).script.most_inputs == 2  # type: ignore[attr-defined]
    assert job({"function": "f", "tests": [asserted, asserted]}).script.most_inputs == 4  # type: ignore[attr-defined]
    assert job({"function": "f", "tests": [asserted, checked]}).script.most_inputs == 0  # type: ignore[attr-defined]


def test_no_program_is_no_answer() -> None:
    assert CodeReward().job(problem(ADD), "It is 3.") == Verdict(0.0, False, "no_answer")


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
    assert CodeReward().judge(problem(ADD), Outcome((), asked(job(ADD), *runs)[1])) == verdict


def test_an_outcome_without_a_verdict_is_ours() -> None:
    with pytest.raises(SandboxError, match="problem p7: its tests ended without a verdict, with None"):
        CodeReward().judge(problem(ADD), Outcome((ran(3),)))


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
        ({"tests": [{"assert": "assert f(1) == 2"}]}, r"tests\[0\]: 'assert' needs the gold's 'function'"),
        ({"function": "f", "tests": [{"assert": 1}]}, "assert: expected a str, found 1"),
        ({"function": "f", "tests": [{"assert": "f(1)"}]}, "expected one assert statement, found 'f"),
        ({"function": "f", "tests": [{"assert": "assert f(1) == g()"}]}, "cannot be decided outside the sandbox"),
        ({"function": "f", "tests": [{"check": None}]}, "check: expected a str, found None"),
        ({"setup": 1, "tests": [{"stdin": "", "expected": ""}]}, "gold: setup: expected code, found 1"),
        ({"prefix": "", "tests": [{"stdin": "", "expected": ""}]}, "gold: prefix: expected code, found ''; leave"),
    ],
)
def test_malformed_gold(gold, message) -> None:
    with pytest.raises(DataError, match=message):
        CodeReward().job(problem(gold), "```python\n1\n```")


@pytest.mark.parametrize(
    ("gold", "program", "reason"),
    [
        (ADD, "def add(a: int, b: int) -> Optional[int]:\n    return sum([a, b])", "right"),
        (ADD, "class Solution:\n    def add(self, a, b): return a + b", "right"),
        (ADD, "def add(a, b): return pow(a, 1, 1000) + b", "right"),
        (COUNT, "class Solution:\n    def count(self, a): return len(a)", "right"),
        (PAIR, "def pair(n): return [n, n + 1]", "right"),
        (PAIR, "def pair(n): return (n, n + 1)", "wrong"),
        (PAIR, "def pair(n): return [n, one]", "wrong"),
        (PAIR, "def other(n): return [n, n + 1]", "error"),
        ({**PAIR, "prefix": "def next_one(n): return n + 1"}, "def pair(n): return [n, next_one(n)]", "right"),
        (
            {**ADD, "prefix": "import os"},
            "from __future__ import annotations\ndef add(a: No, b): return a + b",
            "right",
        ),
        (ADD, "def add(a, b): return 3", "wrong"),
        (ADD, "class E(int):\n    __eq__ = lambda s, o: True\ndef add(a, b): return E(0)", "wrong"),
        (ADD, "class E:\n    __eq__ = lambda s, o: True\ndef add(a, b): return E()", "error"),
        (ADD, "def add(a, b):\n    while True: pass", "cpu_timeout"),
        (ADD, "import sys\nsys.exit(0)", "error"),
        (DOUBLE, "print(int(input()) * 2)", "right"),
        (DOUBLE, "print(float(input()) * 2)", "right"),
        (DOUBLE, "n = int(stdin.readline())\nprint(n + reduce(add, [n]), file=stdout)\nexit()", "right"),
        (DOUBLE, "print(2)", "wrong"),
        (DOUBLE, "print(int(input()) * 2)\n1 / 0", "error"),
    ],
)
def test_end_to_end(gold, program, reason) -> None:
    if shutil.which("bwrap") is None and not os.environ.get("CI"):
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    reward = CodeReward(limits=Limits(cpu_seconds=0.5))
    with BubblewrapExecutor(1) as sandbox:
        [(_, outcome)] = sandbox.execute([job(gold, program, reward)])
    assert reward.judge(problem(gold), outcome).reason == reason


def test_the_prelude_grants_what_livecodebench_does() -> None:
    granted: dict[str, object] = {}
    exec(PRELUDE, granted)
    shown = "pow, open, sum, datetime.datetime, copy.copy, deque, heappush, inf, gcd, sqrt, reduce, lru_cache, List, cmp_to_key"
    exec(
        f"names = [{shown}, ascii_lowercase, bisect_left, Counter, permutations, deepcopy, math, json, stdin]", granted
    )
    assert granted["pow"] is pow
    assert granted["open"] is open


def test_drawn_tests_are_the_same_for_the_same_stream() -> None:
    gold = {"function": "f", "tests": [{"arguments": [n], "expected": n} for n in range(20)]}
    first, again = (draw_tests(gold, 16, np.random.default_rng([7, 3])) for _ in range(2))
    other = draw_tests(gold, 16, np.random.default_rng([7, 4]))
    numbers = [test["expected"] for test in first["tests"]]
    assert first == again != other
    assert first["function"] == "f"
    assert len(set(numbers)) == 16
    assert numbers == sorted(numbers)
    assert len(gold["tests"]) == 20


def test_few_tests_are_all_drawn() -> None:
    assert draw_tests(ADD, 2, np.random.default_rng(0)) is ADD
    with pytest.raises(UserError, match="expected 1 or more to draw, found 0"):
        draw_tests(ADD, 0, np.random.default_rng(0))
