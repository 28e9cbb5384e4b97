"""Guests at work: worker threads, one guest each, that take jobs from one queue.

A guest that is lost is replaced and the input repeated once. If that guest is lost too, a trivial program
tells whose fault it is: where it runs, the input ends its sandbox and the run is a ``violation``; where it
does not, the sandbox is broken and :class:`~archer.errors.SandboxError` is raised. So neither can a
hostile program stop a training run, nor can a broken sandbox become a reward of zero.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

from archer.errors import SandboxError
from archer.execution.base import Call, Job, Limits, Outcome, Run, Stdin
from archer.execution.guest import Guest, Lost

GRACE_SECONDS = 10.0  # past the wall limit: to start, to kill and reap, to hand over the output
TRIVIAL = Job("print(1)", (Stdin(""),), Limits(processes=1))


@dataclass
class _Batch:
    """One call of ``execute``: where its results go, and whether anyone still wants them."""

    results: queue.SimpleQueue[tuple[int, Outcome | BaseException]] = field(default_factory=queue.SimpleQueue)
    cancelled: bool = False


@dataclass(frozen=True)
class _Task:
    index: int
    job: Job
    batch: _Batch


class Pool:
    """Worker threads and their guests. Threads matter: a sandbox dies with the thread that started it."""

    def __init__(self, spawn: Callable[[], Guest], workers: int) -> None:
        """``spawn`` starts a guest; it raises :class:`~archer.execution.guest.Lost` if that fails."""
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._ahead = 4 * workers
        self._workers = [_Worker(spawn, self._tasks) for _ in range(workers)]
        self._lock = threading.Lock()  # nothing enters the queue behind the workers' last task
        self._closed = False

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Outcome]]:
        """Start on the jobs now; yield ``(index, outcome)`` as they finish.

        At most a few jobs per worker are drawn from ``jobs`` ahead of the results taken. ``go_on`` is
        called in a worker's thread; what it raises is raised here. Raises SandboxError when the sandbox
        is broken or closed.
        """
        batch, numbered = _Batch(), enumerate(jobs)
        under_way = sum(self._put(batch, numbered) for _ in range(self._ahead))
        return self._results(batch, numbered, under_way)

    def _put(self, batch: _Batch, numbered: Iterator[tuple[int, Job]]) -> bool:
        for index, job in numbered:
            with self._lock:
                if self._closed:
                    raise SandboxError("the executor is closed; open another one")
                self._tasks.put(_Task(index, job, batch))
            return True
        return False

    def _results(
        self, batch: _Batch, numbered: Iterator[tuple[int, Job]], under_way: int
    ) -> Iterator[tuple[int, Outcome]]:
        try:
            while under_way:
                index, result = batch.results.get()
                if isinstance(result, BaseException):
                    raise result
                under_way += self._put(batch, numbered) - 1
                yield index, result
        finally:
            batch.cancelled = True  # an error, or a caller who stopped asking

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes started for the guests that live now."""
        return tuple(worker.guest.pid for worker in self._workers if worker.guest is not None)

    def close(self) -> None:
        """End every worker and its guest; jobs not finished end in SandboxError for their callers."""
        with self._lock:
            if not self._closed:
                for _ in self._workers:
                    self._tasks.put(None)
            self._closed = True
        for worker in self._workers:
            worker.close()
        for worker in self._workers:
            worker.thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """One thread and, from its first moment, one guest."""

    def __init__(self, spawn: Callable[[], Guest], tasks: queue.SimpleQueue[_Task | None]) -> None:
        self._spawn, self._tasks = spawn, tasks
        self._closed = False
        self.guest: Guest | None = None
        self.thread = threading.Thread(target=self._work, name="sandbox", daemon=True)
        self.thread.start()

    def close(self) -> None:
        self._closed = True
        if (guest := self.guest) is not None:
            guest.interrupt()

    def _work(self) -> None:
        with suppress(Lost, SandboxError):  # what fails here fails again at the first job, and is raised there
            self._ready()
        while (task := self._tasks.get()) is not None:
            if task.batch.cancelled:
                continue
            try:
                task.batch.results.put((task.index, self._outcome(task)))
            except BaseException as error:
                task.batch.results.put((task.index, error))
        self._drop()

    def _outcome(self, task: _Task) -> Outcome:
        runs: list[Run] = []
        job = task.job
        for index in range(len(job.inputs)):
            if task.batch.cancelled:
                break
            runs.append(self._run(job, index))
            if job.go_on is not None and not job.go_on(index, runs[-1]):
                break
        return Outcome(tuple(runs))

    def _run(self, job: Job, index: int) -> Run:
        reasons: list[str] = []
        while len(reasons) < 2:
            try:
                return self._ask(job, job.inputs[index])
            except Lost as lost:
                self._drop()
                reasons.append(str(lost))
        try:
            self._ask(TRIVIAL, TRIVIAL.inputs[0])
        except Lost as lost:
            self._drop()
            raise SandboxError(f"two fresh sandboxes failed in turn; the last one {lost}") from None
        detail = f"the program ended its sandbox twice; it {reasons[-1]}"
        return Run("violation", -9, "", "", None, 0.0, detail)

    def _ask(self, job: Job, given: Stdin | Call) -> Run:
        header: dict[str, Any] = {
            "program": job.program,
            "prelude": job.prelude,
            "limits": asdict(job.limits),
        }
        body = b""
        if isinstance(given, Stdin):
            body = given.text.encode("utf-8", "surrogatepass")
        else:
            header |= {"function": given.function, "arguments": given.arguments}
        guest = self._ready()
        answer, output = guest.ask(header, body, job.limits.wall_seconds + GRACE_SECONDS)
        run = _read_run(answer, output)
        if answer["spent"]:
            self._drop()
        return run

    def _ready(self) -> Guest:
        if self.guest is None and not self._closed:
            self.guest = self._spawn()
        if self._closed or self.guest is None:
            raise SandboxError("the executor was closed before the job was done")
        return self.guest

    def _drop(self) -> None:
        guest, self.guest = self.guest, None
        if guest is not None:
            guest.stop()


def _read_run(answer: dict[str, Any], output: bytes) -> Run:
    """Build a Run from the guest's answer; raises Lost where the answer is not one."""
    try:
        size_out, size_err, size_value = answer["sizes"]
        status, detail = answer["status"], answer["detail"]
        code, seconds, _ = answer["code"], answer["seconds"], answer["spent"]
    except (KeyError, TypeError, ValueError):
        raise Lost(f"sent an answer without its parts: {str(answer)[:200]}") from None
    if len(output) != size_out + size_err + size_value:
        raise Lost("sent an answer of another size than it says")
    stdout = output[:size_out].decode("utf-8", "replace")
    stderr = output[size_out : size_out + size_err].decode("utf-8", "replace")
    value = None
    if size_value:
        try:
            value = json.loads(output[size_out + size_err :])
        except (ValueError, RecursionError) as error:
            status, detail = "error", f"the result cannot be read: {error}"
    return Run(status, code, stdout, stderr, value, seconds, detail)
