"""Executors: batches, lost workers, what remains, and who may open one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import BENIGN, HOSTILE, TIGHT, run

from archer.errors import MissingError, SandboxError, UserError
from archer.execution import EXECUTORS, open_executor
from archer.execution.base import Job, Limits, Run, Stdin
from archer.execution.bubblewrap import Bubblewrap
from archer.execution.limits import default_limits, load_limits
from archer.execution.process import Process


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Bubblewrap]:
    if shutil.which("bwrap") is None and not os.environ.get("CI"):
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    with Bubblewrap(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    with Process(1, unisolated=True) as executor:
        yield executor


# ---- batches


def test_go_on_ends_a_job(sandbox) -> None:
    inputs = tuple(Stdin(str(number)) for number in range(5))
    job = Job("print(input())", inputs, TIGHT, lambda index, result: result.stdout != "2\n")
    [(_, outcome)] = sandbox.execute([job])
    assert [result.stdout for result in outcome.runs] == ["0\n", "1\n", "2\n"]
    assert list(sandbox.execute([])) == []
    assert [outcome.runs for _, outcome in sandbox.execute([Job("", (), TIGHT)])] == [()]


def test_go_on_that_raises_reaches_the_caller(sandbox) -> None:
    def broken(index: int, result: Run) -> bool:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        list(sandbox.execute([Job("", (Stdin(""),), TIGHT, broken)]))
    assert run(sandbox, "print(1)").stdout == "1\n"


def test_jobs_are_drawn_as_results_are_taken(sandbox) -> None:
    drawn = []

    def endless() -> Iterator[Job]:
        while True:
            drawn.append(1)
            yield Job("print(1)", (Stdin(""),), TIGHT)

    results = sandbox.execute(endless())
    for _ in range(10):
        next(results)
    results.close()
    assert len(drawn) <= 10 + 4 * 2


def test_several_threads_share_the_workers(sandbox) -> None:
    found: dict[int, list[str]] = {}

    def ask(thread: int) -> None:
        jobs = [Job(f"print({thread} * 100 + {index})", (Stdin(""),), TIGHT) for index in range(12)]
        found[thread] = [outcome.runs[0].stdout for _, outcome in sorted(sandbox.execute(jobs))]

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {t: [f"{t * 100 + index}\n" for index in range(12)] for t in range(4)}


def test_killed_worker_is_replaced_and_nothing_lost(sandbox) -> None:
    program = "import time\ntime.sleep(0.05)\nprint(input())"
    jobs = [Job(program, (Stdin(str(index)),), TIGHT) for index in range(16)]
    results = sandbox.execute(jobs)
    found = [next(results)]
    for pid in sandbox.pids:
        os.kill(pid, signal.SIGKILL)
    found += list(results)
    assert {index: outcome.runs[0].stdout for index, outcome in found} == {index: f"{index}\n" for index in range(16)}


@pytest.mark.parametrize("name", EXECUTORS)
def test_nothing_remains_after_close(sandbox, name) -> None:
    descriptors, before = len(os.listdir("/proc/self/fd")), threading.active_count()
    executor = open_executor(name, 2, unisolated=True)
    jobs = [Job("import os, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(61.5)", (Stdin(""),), TIGHT)] * 4
    jobs += [Job("import time\ntime.sleep(62.5)", (Stdin(""),), default_limits())] * 2
    results = executor.execute(jobs)
    pids = [next(results) and pid for pid in executor.pids]
    started = time.monotonic()
    executor.close()
    executor.close()
    assert time.monotonic() - started < 2
    with pytest.raises(SandboxError, match="closed"):
        list(results)
    with pytest.raises(SandboxError, match="closed"):
        list(executor.execute(jobs))
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (descriptors, before)
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def test_nothing_outlives_a_killed_host(sandbox) -> None:
    code = (
        "import time\nfrom archer.execution import open_executor\nfrom archer.execution.base import *\n"
        "executor = open_executor('bubblewrap', 2)\n"
        "jobs = [Job('while True: pass', (Stdin(''),), Limits())] * 2\n"
        "executor.execute(jobs)\ntime.sleep(0.5)\nprint(*executor.pids, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pids = [int(pid) for pid in host.stdout.readline().split()]
        inside = [Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0] for pid in pids]
        host.kill()
    deadline = time.monotonic() + 3
    while any(alive(pid) for pid in [*pids, *inside]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in [*pids, *inside] if alive(pid)] == []


def alive(pid: int | str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"  # init reaps in its own time
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_program_that_ends_its_sandbox_is_a_violation(process) -> None:
    result = run(process, "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(9)")
    assert (result.status, result.detail[:38]) == (
        "violation",
        "the program ended its sandbox twice; it"[:38],
    )
    assert run(process, "print(1)").stdout == "1\n"


# ---- without a sandbox


@pytest.mark.parametrize(
    "attack", ["loop", "sleep", "memory", "flood", "segfault", "syntax", "exit_code", "stop_itself"]
)
def test_process_keeps_limits(process, attack) -> None:
    program, expected = HOSTILE[attack]
    assert run(process, program).status == expected
    assert run(process, "print(input())", "hello", default_limits()).stdout == "hello\n"


@pytest.mark.parametrize("style", ["input", "open0", "os_exit", "thread", "atexit", "file"])
def test_process_honest_program(process, style) -> None:
    result = run(process, BENIGN[style], "3 4\n5\n", default_limits())
    assert (result.status, result.stdout.strip()) == ("ok", "12")


def test_process_ends_daemons(process) -> None:
    program = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(63.5)\n    os._exit(0)\nos.wait()\nprint(1)"
    assert run(process, program).stdout == "1\n"
    lines = subprocess.run(
        ["ps", "-eo", "ppid=,stat=,args="], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert [line for line in lines if line.split()[0] == str(process.pids[0])] == []


# ---- opening


def test_process_needs_consent() -> None:
    with pytest.raises(UserError, match=r"sandbox: process: .*--allow-unisolated"):
        open_executor("process", 1)


def test_unknown_executor() -> None:
    with pytest.raises(UserError, match="unknown executor 'bubblewarp' .did you mean 'bubblewrap'"):
        open_executor("bubblewarp", 1)
    with pytest.raises(UserError, match="at least one worker, found 0"):
        open_executor("bubblewrap", 0)


def test_missing_bubblewrap(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="apt-get install bubblewrap"):
        open_executor("bubblewrap", 1)


def test_forbidden_namespaces(monkeypatch, tmp_path) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(MissingError, match=r"No permissions.*user namespaces are disabled.*sysctl"):
        open_executor("bubblewrap", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpu_second: 1", "unknown key 'cpu_second' .did you mean 'cpu_seconds'"),
        ("cpu_seconds: fast", "cpu_seconds: expected a positive float, found 'fast'"),
        ("processes: 1.5", "processes: expected a positive int, found 1.5"),
        ("processes: -1", "processes: expected a positive int, found -1"),
        ("- 1", "expected keys and numbers"),
    ],
)
def test_limits_file(tmp_path, text, message) -> None:
    (tmp_path / "limits.yaml").write_text(text)
    with pytest.raises(UserError, match=f"limits.yaml: {message}"):
        load_limits(tmp_path / "limits.yaml")


def test_limits_shipped_are_the_defaults() -> None:
    assert default_limits() == Limits()


def test_importing_is_light() -> None:
    code = "import sys, archer.execution; print([m for m in ('torch', 'yaml', 'numpy') if m in sys.modules])"
    python = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert python.stdout == "[]\n"
