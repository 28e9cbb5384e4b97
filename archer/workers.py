"""Processes that can be killed over one task: what the grader's limits rest on.

Pebble schedules tasks and replaces dead workers. Added here: a CPU limit per task (a kernel timer that
ends the process even inside C code, and that a busy machine does not bring forward), a memory limit, one
more try after a crash, and workers that never import the caller's ``__main__``: a script without a main
guard, a notebook or a test runner may use them, from any thread; no signal of the caller's is touched.

Not covered: this is no sandbox. A worker may read files and open sockets; it must run our code only.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import context, forkserver, popen_forkserver, reduction, util
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from pebble import ProcessExpired, ProcessPool

from archer.errors import GraderError

_Task = tuple[Any, ...]


@dataclass(frozen=True)
class Killed:
    """Takes the place of a result: the task went over a limit."""

    reason: Literal["timeout", "memory"]


class Workers:
    """A pool that starts with its first task.

    ``seconds`` is CPU time per task; four times that and a second more on the wall ends it too.
    ``memory_bytes`` is what a worker may map beyond what it holds once ``warm`` has run. ``preload`` names
    modules to import once, in the process from which workers are forked.
    """

    def __init__(
        self,
        count: int,
        seconds: float,
        memory_bytes: int,
        warm: Callable[[], object],
        preload: Sequence[str],
    ) -> None:
        self._count, self._seconds = count, seconds
        self._start = (memory_bytes, warm)
        self._context = _CleanContext(preload)
        self._pool: ProcessPool | None = None
        self._lock = threading.Lock()

    def run(self, function: Callable[..., Any], tasks: Sequence[_Task]) -> list[Any]:
        """Return ``function(*task)``, or :class:`Killed`, for every task in order; safe from any thread.

        A task whose worker died is tried once more, on a fresh one; so is everything when the pool broke.
        Raises what ``function`` raised, and :class:`~archer.errors.GraderError` when a fresh pool breaks too.
        """
        results: dict[int, Any] = {}
        for _attempt in range(2):
            left = [index for index in range(len(tasks)) if index not in results]
            broken = self._try(function, {index: tasks[index] for index in left}, results) if left else None
        if broken:
            raise GraderError(
                f"the {self._count} grading workers do not start or do not stay alive ({broken}); see the "
                "messages above, and check free memory and the process limit (`ulimit -u`)"
            ) from broken
        return [results.get(index, Killed("memory")) for index in range(len(tasks))]

    def close(self) -> None:
        """End every worker; a later task would start new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        _end(pool)
        self._context.stop()

    def _try(self, function: Callable[..., Any], tasks: dict[int, _Task], results: dict[int, Any]) -> Exception | None:
        """Fill in results, all but those whose worker died; return the error of a broken pool."""
        pool = self._started()
        futures: dict[int, Any] = {}
        try:
            for index, task in tasks.items():
                arguments = (self._seconds, function, task)
                futures[index] = pool.schedule(_limited, arguments, timeout=4 * self._seconds + 1)
            for index, future in futures.items():
                try:
                    results[index] = future.result()
                except TimeoutError:
                    results[index] = Killed("timeout")
                except ProcessExpired as error:
                    if error.exitcode == -signal.SIGPROF:
                        results[index] = Killed("timeout")
        except BrokenProcessPool as error:
            self._drop(pool)
            return error
        finally:
            for future in futures.values():  # on an error or Ctrl-C: leave no work behind
                future.cancel()
        return None

    def _started(self) -> ProcessPool:
        with self._lock:
            if self._pool is not None and not self._pool.active:  # it broke since the last batch
                _end(self._pool)
                self._pool = None
            if self._pool is None:
                self._pool = ProcessPool(self._count, initializer=_prepare, initargs=self._start, context=self._context)
            return self._pool

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
    for number in (signal.SIGTERM, signal.SIGPROF):  # a Python handler would wait for C code to return
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(FileNotFoundError):  # no /proc, no such limit: macOS ignores it anyway
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_bytes,) * 2)


def _limited(seconds: float, function: Callable[..., Any], task: _Task) -> Any:
    """In a worker: run the task against the clock. Out of memory, end: what is left is not to be trusted."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return function(*task)
    except MemoryError:
        os._exit(1)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class _CleanContext(context.ForkServerContext):
    """A fork server of our own, which neither takes over nor depends on the caller's."""

    def __init__(self, preload: Sequence[str]) -> None:
        super().__init__()
        self._server = forkserver.ForkServer()
        self._server.set_forkserver_preload(list(preload))

    def Process(self, **options: Any) -> BaseProcess:  # type: ignore[override]
        return _Worker(self._server, **options)

    def stop(self) -> None:
        """End the server. Killed, not asked: it would wait for every process that inherited its pipe."""
        pid = self._server._forkserver_pid  # type: ignore[attr-defined]
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self._server._stop()  # type: ignore[attr-defined]


class _Worker(context.ForkServerProcess):
    def __init__(self, server: forkserver.ForkServer, **options: Any) -> None:
        super().__init__(**options)
        self.server: forkserver.ForkServer | None = server

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"server": None}

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _Popen:
        return _Popen(process_obj)


class _Popen(popen_forkserver.Popen):
    """Launches as the parent class does, but on the worker's own server and without a ``__main__``."""

    def _launch(self, process_obj: Any) -> None:
        message = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(
                {"name": process_obj.name, "sys_path": [os.path.abspath(folder) for folder in sys.path]},
                message,
            )
            reduction.dump(process_obj, message)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, write = process_obj.server.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        kept_open = os.dup(write)  # its end of file tells the worker that we are gone
        self.finalizer = util.Finalize(self, _close, (kept_open, self.sentinel))
        with open(write, "wb") as pipe:
            pipe.write(message.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
