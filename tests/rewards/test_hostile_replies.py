"""What a program returns or prints is judged, whatever it is: none of it ends a run, and none of it is right."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from archer.rewards.assertions import Assertion, split
from archer.rewards.code import CodeReward, same_value
from archer.rewards.replay import _size, _written
from archer.sandbox.base import Limits, ProgramJob
from archer.sandbox.bubblewrap import BubblewrapExecutor
from archer.sandbox.values import plain, read_value
from archer.types import Problem

VALUES = [
    "None", "'a'", "''", "'24'", "'x' * 10**6", "'\\ud800'", "'\\0'", "'nan'", "b'\\xff'", "bytes(10**6)", "10**4000",
    "-10**5000", "float('nan')", "float('-inf')", "-0.0", "5e-324", "complex('inf')", "complex('nanj')",
    "[]", "[[]] * 10**4", "[1] * 10**5", "[None, 'a', b'b', 1j]", "deep(100)", "deep(250)", "deep(20000)", "{}", "set()",
    "{float('nan'): 1}", "{(): [], None: {}}", "{frozenset([(1,), b''])}", "{n * (2**61 - 1) for n in range(400)}",
    "[n * (2**61 - 1) for n in range(10**4)]", "range(3)", "object()",
    "(yield)", "type", "f", "Ellipsis", "NotImplemented", "{'tuple': [1]}", "{'dict': 3}", "exit()", "1 / 0",
    "[print('x' * 10**6)]", "input()", "quit", "iter([1])", "Odd(3)", "Odd", "[Odd(3)]", "'a' * 3 * 10**6", "[[0.1] * 999] * 9",
]  # fmt: skip
PROGRAM = """
class Odd(int):
    __eq__ = __hash__ = __repr__ = lambda *_: 1 / 0
def deep(depth):
    value = []
    for _ in range(depth): value = [value]
    return value
def f(*_):
    return VALUE
"""
CHECKS = [
    "assert candidate(1) == 24.5",
    "total = 24.5\n    for part in candidate(1): total = part + 24.5\n    assert total == 24.25",
    "seen = {candidate(1): 1}\n    assert seen[24.5]",
    "first = candidate(1)\n    assert candidate(first) == 24.5 and f(n=first) == 24.5",
    "wrapped = candidate(1)\n    for _ in range(60): wrapped = [wrapped]\n    assert candidate(wrapped) == 24.5",
    "assert sorted([candidate(1), 24.5]) == [24.5, 24.5]",
    "assert f'{candidate(1):5}' == '24.5.' and print(candidate(2))",
    "assert next(iter(candidate(1))) == 24.5 != candidate(1)",
    "assert math.isclose(candidate(1), 24.5) and round(candidate(1), candidate(2))",
    "assert random.choice(candidate(1)) == 24.5",
    "assert len(set(candidate(1))) == 1 and candidate(1)[24.5] == 1",
    "assert candidate(1).startswith('24.5')",
    "try: assert candidate(1) == 24.5\n    except TypeError: assert candidate(2) == 24.5",
    "import copy\n    assert copy.deepcopy(candidate(1)) == [24.5] * 3",
    "assert int(candidate(1)) == float(candidate(1)) == 24.5",
]
ASSERTIONS = [
    "f(1) == 24.5", "len(f(1)) == 24", "abs(f(1) - 24.5) < 1e-6", "f(1) + f(2) == [24.5]", "{f(1)} == {24.5}",
    "set(f(1) + f(2)) == {24.5}", "dict([(f(1), f(2))]) == {24.5: 1}", "sorted(f(1)) == [24.5]", "round(f(1), 2) == 24.5",
    "max(f(1), f(2)) == 24.5", "sum(f(1)) == 24.5", "int(f(1)) == 23", "float(f(1)) == 24.5", "str(f(1)) == '24.5'",
    "f(1) in [24.5]", "24.5 in f(1)", "-f(1) == -24.5", "~f(1) == 24", "f(1) * f(2) == 24.5", "24.5 / f(1) == 1",
    "math.sqrt(f(1)) == 24.5", "math.isclose(f(1), 24.5, rel_tol=f(2)) and f(1) > 24", "allclose(f(1), [24.5], 1e-6)", "f(1)[0] == 24.5",
]  # fmt: skip


def golds() -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = [{"check": f"def check(candidate):\n    {body}\n"} for body in CHECKS]
    tests += [{"assert": f"assert {text}"} for text in ASSERTIONS[::6]]
    return [{"function": "f", "tests": [test]} for test in [*tests, {"arguments": [1], "expected": 24.5}]]


def test_no_value_that_a_program_returns_ends_a_run() -> None:
    if shutil.which("bwrap") is None and not os.environ.get("CI"):
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    reward = CodeReward(Limits(cpu_seconds=1.0, wall_seconds=3.0))
    problems = [Problem(f"p{number}", "lab", "", "code", gold) for number, gold in enumerate(golds())]
    jobs = {}
    for value in VALUES:
        for problem in problems:
            jobs[value, problem.id] = reward.job(problem, f"```python\n{PROGRAM.replace('VALUE', value)}\n```")
    names, asked = list(jobs), [job for job in jobs.values() if isinstance(job, ProgramJob)]
    assert len(asked) == len(names) == len(VALUES) * len(problems)
    with BubblewrapExecutor(2) as sandbox:
        reasons = {names[index]: outcome.result for index, outcome in sandbox.execute(asked)}
    assert len(reasons) == len(names)
    assert [name for name, reason in reasons.items() if reason == "right"] == []
    assert set(reasons.values()) <= {"wrong", "error", "output", "memory", "cpu_timeout", "wall_timeout"}


def test_what_such_a_check_accepts_is_right() -> None:
    if shutil.which("bwrap") is None and not os.environ.get("CI"):
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    problem = Problem("p", "lab", "", "code", golds()[0])
    job = CodeReward().job(problem, "```python\ndef f(x): return 24.5\n```")
    assert isinstance(job, ProgramJob)
    with BubblewrapExecutor(1) as sandbox:
        [(_, outcome)] = sandbox.execute([replace(job)])
    assert outcome.result == "right"


# ---- values as a program may forge them

ATOMS = [
    "1", "-0", "0.5", "1e999", "NaN", "-Infinity", '"a"', '"\\ud800"', '""', "null", "true", "9" * 4299, "9" * 4301, "[]",
    "{}", '"\\u0000"', '"0x1F"', "[1, 2]",
]  # fmt: skip
KINDS = ["tuple", "set", "frozenset", "dict", "bytes", "complex", "list"]


def forged(rng: Random, depth: int = 0) -> str:
    kind = rng.choice(["atom", "list", *KINDS]) if depth < 5 else "atom"
    parts = [forged(rng, depth + 1) for _ in range(rng.randrange(4))] if kind != "atom" else []
    if kind == "atom":
        return rng.choice(ATOMS)
    if kind == "dict" and rng.random() < 0.8:
        parts = [f"[{part}, {forged(rng, depth + 1)}]" for part in parts]
    inner = '"61"' if kind == "bytes" and rng.random() < 0.7 else f"[{', '.join(parts)}]"
    text = inner if kind == "list" else f'{{"{kind}": {inner}}}'
    return text if rng.random() < 0.98 else text[: rng.randrange(len(text))]


def test_forged_values_are_read_or_refused_and_no_assertion_raises() -> None:
    rng, found = Random(7), []
    for _ in range(6000):
        try:
            found.append(read_value(forged(rng).encode()))
        except ValueError:
            continue
    assert len(found) > 1000
    for value in found:
        assert not same_value(value, [24.5])
        assert repr(value)
        assert isinstance(_written(value), str)
        assert plain(value) is not ...
        assert _size(value) is None or _size(value) >= 0
    for text in ASSERTIONS:
        assertion = split(f"assert {text}", "f")
        assert isinstance(assertion, Assertion)
        for _ in range(200):
            assert not assertion.holds([rng.choice(found) for _ in assertion.calls])
