"""Whether a run's end may be the machine's doing, by what a program cannot make up.

A program can kill itself, and wait for a core because its own processes have it. But these run for no longer than its
CPU limit, a third of the limit on elapsed time; and only the kernel counts what it kills in a shortage of memory.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Literal

from archer.sandbox.base import Limits, ProgramRun

STARVED = 0.4  # share of the limit on elapsed time: after a longer wait for a core, a time-out may be due to load
Doubt = Literal["", "load", "kill"]


def doubt(run: ProgramRun, waited: float | None, limits: Limits) -> Doubt:
    """Return why a run's end may be the machine's doing.

    ``waited`` are the seconds that it was ready to run and had no core; None where the kernel does not say.
    """
    if run.status == "error" and run.exit_code == -signal.SIGKILL:
        return "kill"
    starved = waited is None or waited > STARVED * limits.wall_seconds
    return "load" if run.status == "wall_timeout" and starved else ""


class Shortage:
    """Tells whether the kernel of this machine ended processes for lack of memory; thread-safe."""

    def __init__(self, counters: Path = Path("/proc/vmstat")) -> None:
        self._counters, self._lock = counters, threading.Lock()
        self._seen = self._count()

    def is_new(self) -> bool:
        """Return whether it did since the last call, or since this object was made."""
        with self._lock:
            before, self._seen = self._seen, self._count()
            return self._seen > before

    def _count(self) -> int:
        try:
            counted = dict(map(str.split, self._counters.read_text().splitlines()))
        except OSError:
            return 0
        return int(counted.get("oom_kill", 0))
