"""The grader with real workers: limits, order, threads, alarms; programs through a scripted executor."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest

import archer.rewards.grading
from archer.errors import DataError, EngineError, GraderError, MissingError, SandboxError, UserError
from archer.rewards.grading import Grader
from archer.rewards.math import MathReward
from archer.sandbox.base import Limits, Outcome, ProgramJob, ProgramRun, Stdin
from archer.types import Json, Problem, Rollout, Verdict

BOMB = r"\boxed{\binom{1000000000}{500000000}}"  # the parser itself works it out


def rollout(gold: Json, text: str, reward: str = "math", id: str = "p") -> Rollout:
    return Rollout.of_text(Problem(id, "lab", "", reward, gold), text)


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=2, seconds=0.5) as grader:
        yield grader


def reasons(verdicts: list[Verdict]) -> list[str]:
    return [verdict.reason for verdict in verdicts]


def test_verdicts_come_in_order_of_the_rollouts(grader: Grader) -> None:
    batch = [rollout("x+1", r"\boxed{1+x}"), rollout("5", r"\boxed{6}"), rollout("y", r"\boxed{z}")]
    batch += [rollout("5", "none"), rollout("5", r"\boxed{5}"), rollout("y", r"\boxed{\frac{}")]
    assert reasons(grader(batch)) == ["right", "wrong", "wrong", "no_answer", "right", "no_answer"]
    assert grader([]) == []


def test_bomb_times_out_and_the_next_answers_are_graded(grader: Grader) -> None:
    begin = time.monotonic()
    batch = [
        rollout("x+1", BOMB),
        rollout("x+1", r"\boxed{1+x}"),
        rollout("x+2", BOMB),
        rollout("y", r"\boxed{z}"),
    ]
    assert reasons(grader(batch)) == ["timeout", "right", "timeout", "wrong"]
    assert time.monotonic() - begin < 10
    assert not any(verdict.passed or verdict.score for verdict in grader([batch[0]]))


def test_works_from_threads_an_event_loop_and_under_an_alarm(grader: Grader) -> None:
    batch = [rollout("x+1", r"\boxed{1+x}"), rollout("x+1", r"\boxed{x+3}")]
    with ThreadPoolExecutor(3) as threads:
        assert [reasons(v) for v in threads.map(grader, [batch] * 3)] == [["right", "wrong"]] * 3

    async def inside_a_loop() -> list[Verdict]:
        return grader(batch)

    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        assert reasons(asyncio.run(inside_a_loop())) == ["right", "wrong"]
        assert reasons(grader([rollout("x+1", BOMB)])) == ["timeout"]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung == [signal.SIGALRM]


@dataclass(frozen=True)
class Counted(MathReward):
    """Math that writes down every answer it judges."""

    seen: list[str] = field(default_factory=list, compare=False)

    def is_plain(self, gold: Json, answer: str | None) -> bool:
        return True

    def judge(self, gold: Json, answer: str | None) -> Verdict:
        self.seen.append(answer or "")
        return super().judge(gold, answer)


def test_equal_answers_to_equal_golds_are_judged_once(monkeypatch: pytest.MonkeyPatch, grader: Grader) -> None:
    counted = Counted()
    monkeypatch.setattr(archer.rewards.grading, "find_reward", lambda name: counted)
    texts = [r"\boxed{1}", r"so \boxed{1}", r"\boxed{2}", r"\boxed{1}"]
    assert reasons(grader([rollout("1", text) for text in texts])) == ["right", "right", "wrong", "right"]
    assert counted.seen == ["1", "2"]


def test_plain_answers_start_no_worker() -> None:
    with Grader(workers=1, seconds=1) as grader:
        assert reasons(grader([rollout("5", r"\boxed{5}"), rollout("5", "x")])) == ["right", "no_answer"]
        assert grader._workers._pool is None


@dataclass(frozen=True)
class Faulty(MathReward):
    def judge(self, gold: Json, answer: str | None) -> Verdict:
        raise KeyError(answer)


def test_fault_of_a_reward_is_ours(monkeypatch: pytest.MonkeyPatch, grader: Grader) -> None:
    monkeypatch.setattr(archer.rewards.grading, "find_reward", lambda name: Faulty())
    with pytest.raises(GraderError, match="problem p: reward 'math' raised KeyError"):
        grader([rollout("5", r"\boxed{5}")])


def test_what_cannot_be_graded_is_an_error(grader: Grader) -> None:
    with pytest.raises(EngineError, match="problem p, sample 0"):
        grader([replace(rollout("5", r"\boxed{5}"), stop="error")])
    with pytest.raises(DataError, match="problem p: gold: expected"):
        grader([rollout(None, r"\boxed{5}")])
    with pytest.raises(UserError, match="rewards: no reward 'mth'"):
        grader([rollout("5", "", reward="mth")])
    with pytest.raises(UserError, match="workers >= 0"):
        Grader(workers=-1, seconds=1)


def test_truncated_rollouts_are_scored_like_others(grader: Grader) -> None:
    assert reasons(grader([replace(rollout("5", r"\boxed{5}"), stop="length")])) == ["right"]


# Programs ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Echo:
    """A program is right when it prints its gold."""

    rules: ClassVar[int] = 1

    def job(self, problem: Problem, text: str) -> ProgramJob | Verdict:
        return ProgramJob(text, (Stdin(""),), Limits()) if text else Verdict(0.0, False, "no_answer")

    def judge(self, problem: Problem, outcome: Outcome) -> Verdict:
        right = outcome.runs[0].stdout == problem.gold
        return Verdict(float(right), right, "right" if right else "wrong")


@dataclass
class Printer:
    """An executor whose programs print themselves; it finishes them in reverse order."""

    name: str = "printer"
    batches: list[list[str]] = field(default_factory=list)
    lost: int = 0

    def execute(self, jobs: Iterable[ProgramJob]) -> Iterator[tuple[int, Outcome]]:
        programs = [job.program for job in jobs]
        self.batches.append(programs)
        for index in reversed(range(self.lost, len(programs))):
            yield index, Outcome((ProgramRun("ok", 0, programs[index], "", None, 0.0),))

    def close(self) -> None:
        pass


def test_programs_of_a_batch_go_to_the_executor_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archer.rewards.grading, "find_reward", lambda name: Echo())
    printer = Printer()
    batch = [
        rollout("a", "a"),
        rollout("a", "b"),
        rollout("a", "a"),
        rollout("b", "a", id="q"),
        rollout("a", ""),
    ]
    with Grader(workers=1, seconds=1, executor=printer) as grader:
        assert reasons(grader(batch)) == ["right", "wrong", "right", "wrong", "no_answer"]
        assert printer.batches == [["a", "b", "a"]]
        printer.lost = 1
        with pytest.raises(SandboxError, match="3 programs went in, 2 outcomes came back"):
            grader(batch)


def test_programs_put_early_run_once_and_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archer.rewards.grading, "find_reward", lambda name: Echo())
    printer = Printer()
    batch = [rollout("a", "a"), rollout("a", "b"), rollout("a", "a"), rollout("a", "")]
    with Grader(workers=1, seconds=1, executor=printer) as grader:
        started = grader.begin()
        for one in (batch[0], batch[2], batch[3]):
            started.put(one)
        assert reasons(grader.grade(batch, started)) == ["right", "wrong", "right", "no_answer"]
        assert sorted(printer.batches) == [["a"], ["b"]]


def test_programs_without_a_sandbox_name_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archer.rewards.grading, "find_reward", lambda name: Echo())
    with Grader(workers=1, seconds=1) as grader:
        assert reasons(grader([rollout("a", "")])) == ["no_answer"]
        with pytest.raises(MissingError, match=r"install bubblewrap .* `sandbox`"):
            grader([rollout("a", "a")])


# The pool --------------------------------------------------------------------------------------------


def test_killed_idle_worker_is_replaced(grader: Grader) -> None:
    batch = [rollout("x+1", r"\boxed{1+x}")]
    grader(batch)
    pool = grader._workers._pool
    assert pool is not None
    for pid in list(pool._pool_manager.worker_manager.workers):
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)
    assert reasons(grader(batch)) == ["right"]


SCRIPT = r"""
print("main ran")
from archer.rewards.grading import Grader
from archer.types import Problem, Rollout
rollout = Rollout.of_text(Problem("p", "s", "", "math", "x+1"), r"\boxed{1+x}")
grader = Grader(workers=1, seconds=5)
print(grader([rollout])[0].reason)
"""


def test_script_without_main_guard_is_not_run_again_by_the_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("main ran\nright\n", "", 0)
