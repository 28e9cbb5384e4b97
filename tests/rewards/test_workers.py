"""The pool of killable processes: what killed a task, crashes, a pool that does not start."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from archer.errors import GraderError
from archer.rewards.workers import Killed, Workers


def work(kind: str, path: str = "") -> str:
    match kind:
        case "memory":
            return str(len(bytearray(2**30)))
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crash once" if not Path(path).exists():
            Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        case "late once" if not Path(path).exists():
            Path(path).touch()
            time.sleep(60)
        case "sleep":
            time.sleep(60)
    return kind


def test_workers_report_what_killed_a_task(tmp_path: Path) -> None:
    workers = Workers(2, seconds=0.3, memory_bytes=2**28, warm=nothing, preload=())
    try:
        tasks = [
            ("fine",),
            ("memory",),
            ("crash",),
            ("sleep",),
            ("crash once", str(tmp_path / "once")),
            ("fine",),
        ]
        memory, timeout = Killed("memory"), Killed("timeout")
        assert workers.run(work, tasks) == ["fine", memory, memory, timeout, "crash once", "fine"]
    finally:
        workers.close()
    assert workers._context._server._forkserver_pid is None


def test_only_the_task_that_killed_its_worker_is_lost() -> None:
    """Tasks travel in batches; the others of a batch are done again."""
    workers = Workers(2, seconds=0.2, wall=0.4, memory_bytes=2**28, warm=nothing, preload=())
    tasks = [("memory" if index == 41 else "sleep" if index in (3, 77) else "fine",) for index in range(128)]
    try:
        expected = {"memory": Killed("memory"), "sleep": Killed("timeout"), "fine": "fine"}
        assert workers.run(work, tasks) == [expected[kind] for (kind,) in tasks]
        with ThreadPoolExecutor(3) as threads:
            batches = [[("sleep",), ("fine",)], [("fine",)] * 9, [("fine",), ("memory",)]]
            found = list(threads.map(lambda batch: workers.run(work, batch), batches))
        assert found == [[expected[kind] for (kind,) in batch] for batch in batches]
    finally:
        workers.close()


def nothing() -> None:
    """Need nothing to be warm."""


def refuse() -> None:
    raise ImportError("no such library")


def test_workers_that_do_not_start_are_our_error() -> None:
    workers = Workers(1, seconds=1, memory_bytes=2**28, warm=refuse, preload=())
    try:
        with pytest.raises(GraderError, match="grading workers do not start"):
            workers.run(work, [("fine",)])
    finally:
        workers.close()


def test_what_the_clock_on_the_wall_ends_is_tried_once_more(tmp_path: Path) -> None:
    workers = Workers(1, seconds=5, memory_bytes=2**28, warm=nothing, preload=(), wall=0.5)
    try:
        tasks = [("fine",), ("late once", str(tmp_path / "once")), ("sleep",), ("fine",)]
        assert workers.run(work, tasks) == ["fine", "late once", Killed("timeout"), "fine"]
    finally:
        workers.close()
