"""The pool of killable processes: what killed a task, crashes, a pool that does not start."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from archer.errors import GraderError
from archer.workers import Killed, Workers


def work(kind: str, path: str = "") -> str:
    match kind:
        case "memory":
            return str(len(bytearray(2**30)))
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crash once" if not Path(path).exists():
            Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
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
