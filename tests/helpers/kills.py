"""Runs that are killed, and what must come out of them all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from archer.runs.folder import read_lines


def command(recipe: Path, out: Path, algorithm: str) -> list[str]:
    return [
        sys.executable, "-m", "archer", "train", str(recipe), "--algorithm", algorithm, "--seed", "3",
        "--out", str(out), "--threads", "1",
    ]  # fmt: skip


def killed_after(arguments: list[str], out: Path, steps: int, delay: float) -> None:
    """Start a run and SIGKILL it ``delay`` seconds after it recorded ``steps`` steps."""
    process = subprocess.Popen(arguments, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while len(read_lines(out / "metrics.jsonl")) < steps:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(delay)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def content(out: Path) -> dict[str, bytes]:
    """Every file of a run that must not depend on its history."""
    files = [out / "metrics.jsonl", *sorted((out / "rollouts").iterdir())]
    files += sorted(path for path in (out / "checkpoints").rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}
