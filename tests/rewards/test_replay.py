"""Checks by replay: the check's code and the program take turns, each in a sandbox of its own."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from archer.errors import DataError, SandboxError
from archer.rewards import replay as module
from archer.rewards.code import CodeReward
from archer.rewards.golds import kinds
from archer.rewards.replay import replay
from archer.sandbox.base import Call, Expression, ProgramJob, ProgramRun, Script, Trusted
from archer.sandbox.bubblewrap import BubblewrapExecutor
from archer.types import Problem

# The loop draws; double is the data set's helper, and the check calls the function by its name too.
CHECK = """
import random

def double(n):
    return 2 * n

def check(candidate):
    for _ in range(3):
        n = random.randint(0, 10**9)
        assert candidate(n) == (double(n), "even")
    assert twice(n=4, names=["a"]) == (8, "even")
"""
GOLD = {"function": "twice", "tests": [{"check": CHECK}]}


def ran(value: object = None, status: str = "ok", detail: str = "") -> ProgramRun:
    return ProgramRun(status, 0, "", "", value, 0.001, detail)  # type: ignore[arg-type]


def verdict(program: str, gold: dict[str, object]) -> tuple[str, int]:
    """The reason, and the number of runs it took."""
    if shutil.which("bwrap") is None and not os.environ.get("CI"):
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    problem, reward = Problem("p7", "lab", "Write it.", "code", gold), CodeReward()
    with BubblewrapExecutor(1) as sandbox:
        job = reward.job(problem, f"```python\n{program}\n```")
        assert isinstance(job, ProgramJob)
        [(_, outcome)] = sandbox.execute([replace(job, keep_runs=True)])
    return reward.judge(problem, outcome).reason, len(outcome.runs)


def started(check: str = CHECK, setup: str = "") -> Script:
    script = replay(check, "twice", setup, "import math\n")
    first = next(script)
    assert isinstance(first, Trusted)
    assert (first.function, first.arguments) == ("_replay", ("twice", []))
    assert first.program.startswith("import math\n")
    return script


def test_the_check_and_the_program_take_turns() -> None:
    script = started()
    assert script.send(ran(["need", [5], {}])) == Call("twice", (5,))
    again = script.send(ran((10, "even")))
    assert isinstance(again, Trusted)
    assert again.arguments == ("twice", [(10, "even")])
    assert script.send(ran(["need", [5], {"names": ["a"]}])) == Expression("twice(*[5], **{'names': ['a']})")
    script.send(ran((10, "even")))
    with pytest.raises(StopIteration) as end:
        script.send(ran(["passed"]))
    assert end.value.value == "right"


def test_setup_is_there_for_every_call() -> None:
    assert started(setup="x = 1").send(ran(["need", [(5,)], {}])) == Expression("twice(*[(5,)], **{})", "x = 1")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (ran(status="error"), "error"),
        (ran(status="cpu_timeout"), "cpu_timeout"),
        (ran("x" * 10_001), "output"),
        (ran([[0] * 5000] * 3), "output"),
        (ran(10**2000), "output"),
        (ran({"a": {1: (2, [3])}}), None),
        (ran({"x" * 10_001: 1}), "output"),
    ],
)
def test_a_run_that_fails_or_replies_too_much_ends_the_check(reply: ProgramRun, reason: str | None) -> None:
    script = started()
    script.send(ran(["need", [5], {}]))
    if reason is None:
        assert isinstance(script.send(reply), Trusted)
        return
    with pytest.raises(StopIteration) as end:
        script.send(reply)
    assert end.value.value == reason


def test_a_reply_nested_deeply_is_too_much() -> None:
    deep: list[object] = []
    for _ in range(2000):
        deep = [deep]
    script = started()
    script.send(ran(["need", [5], {}]))
    with pytest.raises(StopIteration) as end:
        script.send(ran(deep))
    assert end.value.value == "output"


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (ran(status="error", detail="NameError: x"), DataError, "failed by itself: NameError: x; mend"),
        (ran(status="cpu_timeout", detail="more"), SandboxError, "ended with cpu_timeout"),
        (ran(status="violation"), SandboxError, "the program is not to blame"),
        (ran("passed"), SandboxError, "harness returned 'passed'"),
        (ran(["passed"]), DataError, "passes without asking the program; mend"),
    ],
)
def test_a_check_that_fails_by_itself_scores_nothing(run: ProgramRun, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        started().send(run)


def test_checks_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CALLS", 2)
    script = started()
    for _ in range(2):
        script.send(ran(["need", [5], {}]))
        script.send(ran(1))
    script.send(ran(["need", [5], {}]))
    with pytest.raises(StopIteration) as end:
        script.send(ran(1))
    assert end.value.value == "wrong"


@pytest.mark.parametrize(
    ("run", "reason"),
    [(ran(status="error", detail="the result cannot be read"), "error"), (ran(status="cpu_timeout"), "cpu_timeout")],
)
def test_a_reply_that_breaks_a_check_is_the_program_s_doing(run: ProgramRun, reason: str) -> None:
    script = started()
    script.send(ran(["need", [5], {}]))
    script.send(ran((10, "even")))
    with pytest.raises(StopIteration) as end:
        script.send(run)
    assert end.value.value == reason


def test_infinity_survives_a_call_with_names() -> None:
    asked = started().send(ran(["need", [float("inf"), (float("nan"),)], {"names": [{1.5}]}]))
    assert asked == Expression("twice(*list([float('inf'), tuple([float('nan')])]), **{'names': [{1.5}]})")


@pytest.mark.parametrize(
    ("program", "reason", "runs"),
    [
        ("def twice(n, names=()): return 2 * n, 'even'", "right", 9),
        ("def twice(n): return 2 * n, 'even'", "error", 8),  # it does not know names
        ("def twice(n, names=()): return [2 * n, 'even']", "wrong", 3),
        ("def twice(n, names=()): return 2 * n + (n == 4), 'even'", "wrong", 9),
        ("def twice(n, names=()): return [[]]", "wrong", 3),
        ("class Solution:\n    def twice(self, n, names=()): return 2 * n, 'odd'", "wrong", 3),
        ("def double(n): return 0\ndef twice(n, names=()): return 0, 'even'", "wrong", 3),
    ],
)
def test_end_to_end(program: str, reason: str, runs: int) -> None:
    assert verdict(program, GOLD) == (reason, runs)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("def check(candidate): assert candidate(1) == doubled(1)", "name 'doubled' is not defined"),
        ("def check(candidate): assert 1 == 2", "AssertionError"),
        ("def check(candidate): import nothing_of_the_kind", "nothing_of_the_kind"),
        ("def check(candidate", "SyntaxError"),
    ],
)
def test_broken_checks_are_the_data_set_s(check: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"(?s)problem p7: gold: tests\[0\]: check: .*{message}"):
        verdict("def twice(n): return 2 * n", {"function": "twice", "tests": [{"check": check}]})


def test_a_program_never_meets_the_check() -> None:
    spy = (
        "import gc, sys\ndef twice(n, names=()):\n"
        "    held = [o for o in gc.get_objects() if isinstance(o, dict) and '_replay' in o]\n"
        "    return (2 * n, 'even' if not held and '_replay' not in globals() else 'seen')"
    )
    assert verdict(spy, GOLD) == ("right", 9)


def test_kinds_are_counted() -> None:
    mixed = {"function": "f", "tests": [{"check": "x"}, {"assert": "y"}, {"arguments": [], "expected": 1}]}
    assert kinds(mixed) == {"check": 1, "assert": 1, "arguments": 1}
    assert kinds({"tests": [{"stdin": "", "expected": ""}] * 2}) == {"stdin": 2}


def checked(body: str, program: str) -> str:
    """The reason of a program that is judged by a check with this body."""
    return verdict(program, {"function": "f", "tests": [{"check": f"def check(candidate):\n    {body}\n"}]})[0]


def test_a_check_that_runs_replies_is_refused_before_anything_runs() -> None:
    gold = {"function": "f", "tests": [{"check": "def check(candidate):\n    assert eval(candidate(1)) == 24\n"}]}
    with pytest.raises(DataError, match=r"problem p7: gold: tests\[0\]: check: it uses `eval`"):
        CodeReward().job(Problem("p7", "lab", "Write it.", "code", gold), "no program")


@pytest.mark.parametrize(
    "body",
    [
        "global limit\n    if candidate(1) == 2: limit = 3\n    assert limit == 3",  # NameError
        "if candidate(1) != 2: import nothing_of_the_kind",
        "if candidate(1) != 2: raise SystemExit(0)",
        "if candidate(1) != 2: raise KeyboardInterrupt",
        "if candidate(1) != 2: raise GeneratorExit",
        "if candidate(1) != 2: input()",
        "if candidate(1) != 2: raise MemoryError",
    ],
)
def test_what_a_check_does_about_a_reply_is_the_reply_s(body: str) -> None:
    assert checked(body, "def f(x): return 3") == "wrong"
    assert checked(body, "def f(x): return 2") == "right"


def test_so_is_a_limit_that_a_check_exceeds_over_a_reply() -> None:
    assert checked("if candidate(1) != 2: print('x' * 10**7)", "def f(x): return 3") == "output"
    assert checked("if candidate(1) != 2: import os; os._exit(0)", "def f(x): return 3") == "error"


@pytest.mark.parametrize(
    "body",
    [
        "try: seen = candidate(1)\n    except: seen = 2\n    assert seen == 2",
        "try: seen = candidate(1)\n    except BaseException: seen = 2\n    assert seen == 2",
        "try: assert candidate(1) == 2\n    finally: return",
        "import contextlib\n    with contextlib.suppress(BaseException): assert candidate(1) == 2\n    assert f(2) == 2",
    ],
)
def test_a_check_that_catches_everything_still_asks_the_program(body: str) -> None:
    assert checked(body, "def f(x): return 2") == "right"
    assert checked(body, "def f(x): 1 / 0") == "error"
    if "assert candidate" not in body:  # else it catches what it should let through
        assert checked(body, "def f(x): return 3") == "wrong"


def test_all_replies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ALL", 20)
    script = started()
    for _ in range(2):
        script.send(ran(["need", [5], {}]))
        script.send(ran([1] * 8))
    script.send(ran(["need", [5], {}]))
    with pytest.raises(StopIteration) as end:
        script.send(ran([1] * 8))
    assert end.value.value == "output"


def test_an_infinite_complex_number_survives_a_call_with_names() -> None:
    asked = started().send(ran(["need", [complex("inf"), complex(1, -2)], {"n": complex("nanj")}]))
    assert asked == Expression(
        "twice(*list([complex(float('inf'), 0.0), (1-2j)]), **{'n': complex(0.0, float('nan'))})"
    )
