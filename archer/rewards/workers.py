"""Worker processes that can be killed over a single task, as the grader's limits require.

Pebble schedules tasks and replaces dead workers. Added here: tasks travel in batches, which makes sending cheap, and
a batch whose worker died loses only the task that killed it; each task has limits on CPU and elapsed time (kernel
timers that end the process even inside C code) and on memory; a crash is retried once; and workers never import
the caller's ``__main__``, so a script without a main guard, a notebook or a test runner may use them, from any
thread, inside a running event loop, under an alarm of their own.

This is not a sandbox: a worker may read files and open sockets, so it must run this project's code only.
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
_TIMERS = (signal.ITIMER_PROF, signal.ITIMER_REAL)  # SIGPROF and SIGALRM, which end a process by default
_SLOT = struct.Struct("i")


@dataclass(frozen=True)
class Killed:
    """The result of a task that exceeded a limit."""

    reason: Literal["timeout", "memory"]


@dataclass
class _Tally:
    """The results of tasks so far, and how often each task's worker died."""

    results: dict[int, Any] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)

    @property
    def progress(self) -> int:
        """A number that grows with every result and every death."""
        return len(self.results) + self.deaths.total()

    def blame(self, index: int, code: int) -> None:
        """Count a worker's death at this task: final at once if out of CPU time, else the second time."""
        self.deaths[index] += 1
        if code == -signal.SIGPROF or (self.deaths[index] > 1 and code == -signal.SIGALRM):
            self.results[index] = Killed("timeout")
        elif self.deaths[index] > 1:
            self.results[index] = Killed("memory")


class Workers:
    """A pool of ``count`` processes that starts with its first task.

    ``seconds`` limits a task's CPU time, ``wall`` its elapsed seconds (0: 2 x ``seconds`` + 1). ``memory_bytes`` is
    what a worker may map beyond what it holds once ``warm`` has run. ``preload`` names modules to import once, in
    the process from which workers are forked.
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

        A task whose worker died, or that ran out of elapsed time first, is retried once, alone and on a fresh worker:
        the machine may have been at fault. If the pool breaks, every unfinished task is retried.
        Raises what ``function`` raises, and :class:`~archer.errors.GraderError` if a fresh pool breaks too.
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
        """End every worker; a later task starts new ones."""
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
        """Run the batches, filling ``tally`` with results and deaths; return the error of a broken pool."""
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
    """In a new worker: call ``warm``, then set the limits."""
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
    """In a worker: run the tasks, each under its timers. End the process when out of memory: its state is in doubt."""
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
    """A file in which workers note the task of a batch that they are at, to be read after one is killed."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="archer-grading-", buffering=0)  # noqa: SIM115
        self._slots = itertools.count(0, _SLOT.size)
        self.path = self._file.name

    def slot(self) -> int:
        """Return the byte offset of a new slot, for one batch."""
        offset = next(self._slots)
        os.pwrite(self._file.fileno(), _SLOT.pack(-1), offset)
        return offset

    def read(self, slot: int) -> int:
        """Return the index of the task that a batch has reached, -1 before the first."""
        return int(_SLOT.unpack(os.pread(self._file.fileno(), _SLOT.size, slot))[0])

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
