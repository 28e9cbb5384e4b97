"""Guests at work: worker threads, one guest each, that take jobs from one queue.

A guest that is lost is replaced and the input repeated once. If that guest is lost too, a trivial program
tells whose fault it is: where it runs, the input ends its sandbox and the run is a ``violation``; where it
does not, the sandbox is broken and :class:`~archer.errors.SandboxError` is raised. So neither can a
hostile program stop a training run, nor can a broken sandbox become a reward of zero.

A program that ran out of elapsed time while it waited for a free core is run once more, alone.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Self

from archer.errors import SandboxError
from archer.execution.base import Input, Job, Limits, Outcome, Run, Stdin, Trusted, in_order
from archer.execution.frames import read_run, request
from archer.execution.gate import Gate
from archer.execution.guest import Guest, Lost

GRACE_SECONDS = 10.0  # past the wall limit: to start, to kill and reap, to hand over the output
LIFE = 2000  # inputs of one guest; then a fresh one takes its place
STARVED = 0.02  # of the wall limit: waited longer than that for a free core, a time-out may be the load's doing
TRIVIAL = Job("print(1)", in_order(Stdin("")), Limits(processes=1))


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

    name = "pool"

    def __init__(self, spawn: Callable[[], Guest], workers: int) -> None:
        """``spawn`` starts a guest; it raises :class:`~archer.execution.guest.Lost` if that fails."""
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._ahead = 4 * workers
        gate = Gate()
        self._workers = [_Worker(spawn, self._tasks, gate) for _ in range(workers)]
        self._lock = threading.Lock()  # nothing enters the queue behind the workers' last task
        self._closed = False

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Outcome]]:
        """Start on the jobs now; yield ``(index, outcome)`` as they finish.

        At most a few jobs per worker are drawn from ``jobs`` ahead of the results taken. A job's script
        goes on in a worker's thread; what it raises is raised here. Raises SandboxError when the sandbox
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
    def guests(self) -> tuple[Guest, ...]:
        """The guests that live now."""
        return tuple(guest for worker in self._workers for guest in worker.guests.values())

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
    """One thread and, from its first moment, one guest; another one for trusted inputs once there are some."""

    def __init__(self, spawn: Callable[[], Guest], tasks: queue.SimpleQueue[_Task | None], gate: Gate) -> None:
        self._spawn, self._tasks, self._gate = spawn, tasks, gate
        self._closed = False
        self.guests: dict[bool, Guest] = {}  # by whether trusted inputs, and nothing else, run in it
        self.thread = threading.Thread(target=self._work, name="sandbox", daemon=True)
        self.thread.start()

    def close(self) -> None:
        self._closed = True
        for guest in list(self.guests.values()):
            guest.interrupt()

    def _work(self) -> None:
        with suppress(Lost, SandboxError):  # what fails here fails again at the first job, and is raised there
            self._ready(False)
        while (task := self._tasks.get()) is not None:
            if task.batch.cancelled:
                continue
            try:
                task.batch.results.put((task.index, self._outcome(task)))
            except BaseException as error:
                task.batch.results.put((task.index, error))
        for trusted in list(self.guests):
            self._drop(trusted)

    def _outcome(self, task: _Task) -> Outcome:
        runs: list[Run] = []
        script = task.job.script()
        try:
            given = next(script)
            while not task.batch.cancelled:
                runs.append(self._run(task.job, given))
                given = script.send(runs[-1])
        except StopIteration:
            pass
        finally:
            self._end_job()
        return Outcome(tuple(runs))

    def _end_job(self) -> None:
        for trusted, guest in list(self.guests.items()):
            try:
                guest.done()
            except Lost:
                self._drop(trusted)

    def _run(self, job: Job, given: Input) -> Run:
        with self._gate.beside_others():
            run, starved = self._attempt(job, given)
        if starved:
            with self._gate.alone():
                run, _ = self._attempt(job, given)
        return run

    def _attempt(self, job: Job, given: Input) -> tuple[Run, bool]:
        """Run one input, whatever happens to guests; say too whether a time-out may be the load's doing."""
        reasons: list[str] = []
        trusted = isinstance(given, Trusted)
        while len(reasons) < 2:
            try:
                return self._ask(job, given)
            except Lost as lost:
                self._drop(trusted)
                reasons.append(str(lost))
        try:
            self._ask(TRIVIAL, Stdin(""))
        except Lost as lost:
            self._drop(False)
            raise SandboxError(f"two fresh sandboxes failed in turn; the last one {lost}") from None
        detail = f"the program ended its sandbox twice; it {reasons[-1]}"
        return Run("violation", -9, "", "", None, 0.0, detail), False

    def _ask(self, job: Job, given: Input) -> tuple[Run, bool]:
        header = {"program": job.program, "prelude": job.prelude, "limits": asdict(job.limits), **request(given)}
        body = given.text.encode("utf-8", "surrogatepass") if isinstance(given, Stdin) else b""
        trusted = isinstance(given, Trusted)
        guest = self._ready(trusted)
        guest.prepare(header["prelude"])
        answer, output = guest.ask(header, body, job.limits.wall_seconds + GRACE_SECONDS)
        run = read_run(answer, output)
        waited = answer.get("waited")
        if answer["spent"] or guest.asked >= LIFE:
            self._drop(trusted)
        starved = waited is None or waited > STARVED * job.limits.wall_seconds
        return run, run.status == "wall_timeout" and starved

    def _ready(self, trusted: bool) -> Guest:
        if self._closed:
            raise SandboxError("the executor was closed before the job was done")
        if trusted not in self.guests:
            self.guests[trusted] = self._spawn()
        if self._closed:  # while it started, and too early to be interrupted
            raise SandboxError("the executor was closed before the job was done")
        return self.guests[trusted]

    def _drop(self, trusted: bool) -> None:
        guest = self.guests.pop(trusted, None)
        if guest is not None:
            guest.stop()
