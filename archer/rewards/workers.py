"""Processes that can be killed over one task: what the grader's limits rest on.

Pebble schedules and replaces dead workers. Added here: tasks travel in batches, so that sending them costs little
beside doing them, and a batch whose worker died loses only the task that killed it; two limits a task, of CPU
time and of time on the wall (kernel timers that end the process even inside C code); a memory limit; one more try
after a crash; and workers that never import the caller's ``__main__``: a script without a main guard, a notebook
or a test runner may use them, from any thread, inside a running event loop, under an alarm of their own.

Not covered: this is no sandbox. A worker may read files and open sockets; it must run our code only.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import resource
import signal
import struct
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pebble import ProcessExpired, ProcessPool

from archer.errors import GraderError
from archer.rewards.forking import CleanContext

_Task = tuple[Any, ...]
LARGEST_BATCH = 16
_TIMERS = (signal.ITIMER_PROF, signal.ITIMER_REAL)  # SIGPROF and SIGALRM, at their default: the end
_SLOT = struct.Struct("i")


@dataclass(frozen=True)
class Killed:
    """Takes the place of a result: the task went over a limit."""

    reason: Literal["timeout", "memory"]


@dataclass
class _Tally:
    """What came of tasks: results, and whose worker died how often."""

    results: dict[int, Any] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)

    @property
    def progress(self) -> int:
        """A number that grows whenever anything was learned."""
        return len(self.results) + self.deaths.total()

    def blame(self, index: int, code: int) -> None:
        """Note that a worker died at this task: out of CPU time at once decides, anything else the second time."""
        self.deaths[index] += 1
        if code == -signal.SIGPROF or (self.deaths[index] > 1 and code == -signal.SIGALRM):
            self.results[index] = Killed("timeout")
        elif self.deaths[index] > 1:
            self.results[index] = Killed("memory")


class Workers:
    """A pool that starts with its first task.

    ``seconds`` is CPU time per task; ``wall`` seconds on the wall end it too (0: twice the CPU time and a second
    more). ``memory_bytes`` is what a worker may map beyond what it holds once ``warm`` has run. ``preload``
    names modules to import once, in the process from which workers are forked.
    """

    def __init__(
        self,
        count: int,
        seconds: float,
        memory_bytes: int,
        warm: Callable[[], object],
        preload: Sequence[str],
        wall: float = 0.0,
    ) -> None:
        self._count = count
        self._limits = (seconds, wall or 2 * seconds + 1)
        self._start = (memory_bytes, warm)
        self._context = CleanContext(preload)
        self._pool: ProcessPool | None = None
        self._lock = threading.Lock()
        self._progress: _Progress | None = None

    def run(self, function: Callable[..., Any], tasks: Sequence[_Task]) -> list[Any]:
        """Return ``function(*task)``, or :class:`Killed`, for every task in order; safe from any thread.

        A task whose worker died, or that the clock on the wall ended before its CPU time was up, is tried once more,
        on a fresh one and alone: the machine may have been at fault. So is everything when the pool broke.
        Raises what ``function`` raised, and :class:`~archer.errors.GraderError` when a fresh pool breaks too.
        """
        tally = _Tally()
        size, failures = max(1, min(LARGEST_BATCH, len(tasks) // (4 * self._count))), 0
        while left := [index for index in range(len(tasks)) if index not in tally.results]:
            suspects = [index for index in left if tally.deaths[index]]
            rest = [index for index in left if not tally.deaths[index]]
            batches = [[index] for index in suspects] + [rest[at : at + size] for at in range(0, len(rest), size)]
            before = tally.progress
            broken = self._try(function, tasks, batches, tally)
            failures += broken is not None or tally.progress == before
            if failures > 1:
                raise GraderError(
                    f"the {self._count} grading workers do not start or do not stay alive ({broken}); see the "
                    "messages above, and check free memory and the process limit (`ulimit -u`)"
                ) from broken
            size = max(1, size // 4)
        return [tally.results[index] for index in range(len(tasks))]

    def close(self) -> None:
        """End every worker; a later task would start new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        _end(pool)
        self._context.stop()
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def _try(
        self,
        function: Callable[..., Any],
        tasks: Sequence[_Task],
        batches: list[list[int]],
        tally: _Tally,
    ) -> Exception | None:
        """Fill in results and deaths; return the error of a broken pool."""
        pool, progress = self._started()
        slots = [progress.slot() for _ in batches]
        futures: list[Any] = []
        try:
            for batch, slot in zip(batches, slots, strict=True):
                arguments = (self._limits, function, [tasks[index] for index in batch], progress.path, slot)
                last_resort = len(batch) * (self._limits[1] + 1) + 5
                futures.append(pool.schedule(_limited, arguments, timeout=last_resort))
            for batch, slot, future in zip(batches, slots, futures, strict=True):
                try:
                    tally.results |= dict(zip(batch, future.result(), strict=True))
                except TimeoutError:  # the worker's own timers failed: pebble killed it
                    tally.blame(batch[max(progress.read(slot), 0)], -signal.SIGALRM)
                except ProcessExpired as error:
                    if (reached := progress.read(slot)) >= 0:
                        tally.blame(batch[reached], error.exitcode)
        except BrokenProcessPool as error:
            self._drop(pool)
            return error
        finally:
            for future in futures:  # on an error or Ctrl-C: leave no work behind
                future.cancel()
        return None

    def _started(self) -> tuple[ProcessPool, _Progress]:
        with self._lock:
            if self._pool is not None and not self._pool.active:  # it broke since the last batch
                _end(self._pool)
                self._pool = None
            if self._pool is None:
                self._pool = ProcessPool(self._count, initializer=_prepare, initargs=self._start, context=self._context)
            if self._progress is None:
                self._progress = _Progress()
            return self._pool, self._progress

    def _drop(self, pool: ProcessPool) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None
        _end(pool)


def _end(pool: ProcessPool | None) -> None:
    if pool is not None:
        pool.stop()
        pool.join()


def _prepare(memory_bytes: int, warm: Callable[[], object]) -> None:
    """In a new worker: load what is needed, then set the limits."""
    warm()
    for number in (signal.SIGTERM, signal.SIGPROF, signal.SIGALRM):  # a Python handler would wait for C code to return
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(FileNotFoundError):  # no /proc, no such limit: macOS ignores it anyway
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_bytes,) * 2)


def _limited(
    limits: tuple[float, float], function: Callable[..., Any], tasks: list[_Task], path: str, slot: int
) -> list[Any]:
    """In a worker: run the tasks, each against the clock. Out of memory, end: what is left is not to be trusted."""
    file = _opened(path)
    results = []
    try:
        for reached, task in enumerate(tasks):
            os.pwrite(file, _SLOT.pack(reached), slot)
            for timer, seconds in zip(_TIMERS, limits, strict=True):
                signal.setitimer(timer, seconds)
            results.append(function(*task))
    except MemoryError:
        os._exit(1)
    finally:
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
    return results


@functools.cache
def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY)


class _Progress:
    """A file in which workers note which task of a batch they are at: all that is left when one is killed."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="archer-grading-", buffering=0)  # noqa: SIM115
        self._slots = itertools.count(0, _SLOT.size)
        self.path = self._file.name

    def slot(self) -> int:
        """Return the place of one batch, used once."""
        place = next(self._slots)
        os.pwrite(self._file.fileno(), _SLOT.pack(-1), place)
        return place

    def read(self, slot: int) -> int:
        """Return the task a batch has reached, -1 where it did not begin."""
        return int(_SLOT.unpack(os.pread(self._file.fileno(), _SLOT.size, slot))[0])

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
