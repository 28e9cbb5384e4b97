"""Worker threads, each with its own guest, that take jobs from one queue.

A guest that is lost over an input is replaced and the input repeated once. If that guest is lost too, a trivial
program shows whose fault it is: if it runs, the input took its sandbox down and the run is a ``violation``; if it
does not, or no guest starts, the sandbox is broken and :class:`~archer.errors.SandboxError` is raised. So a hostile
program cannot stop a training run, and a broken sandbox cannot become a reward of zero.

A program that ran out of elapsed time for want of a free core is run once more with more of it, alone among the pool's
programs where :class:`~archer.sandbox.gate.Gate` grants that. One that was killed is run once more beside the others,
alone if the kernel was short of memory.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from types import TracebackType
from typing import Self

from archer.errors import DataError, SandboxError
from archer.sandbox.base import Input, Limits, Outcome, ProgramJob, ProgramRun, Stdin, Trusted, in_order
from archer.sandbox.doubt import Doubt, Shortage, doubt
from archer.sandbox.frames import read_run, request
from archer.sandbox.gate import Gate
from archer.sandbox.guest import Guest, GuestLost

GRACE_SECONDS = 10.0  # past the wall limit: to start, to kill and reap, to hand over the output
LIFE = 2000  # inputs of one guest, before a fresh one takes its place
PATIENCE = 3  # factor on the wall limit for a second run after such a time-out; the CPU limit stays
PAUSES = (0.2, 1.0, 3.0)  # seconds before another try to start a guest
MOST_STDIN = 32 * 2**20  # bytes: the input shares its folder with the files that the program writes
TRIVIAL = ProgramJob("print(1)", in_order(Stdin("")), Limits())


@dataclass
class _Batch:
    """One call of ``execute``: where its results go, and whether anyone still wants them."""

    results: queue.SimpleQueue[tuple[int, Outcome | BaseException]] = field(default_factory=queue.SimpleQueue)
    cancelled: bool = False


@dataclass(frozen=True)
class _Task:
    index: int
    job: ProgramJob
    batch: _Batch


class Pool:
    """Worker threads, each with its guests: a sandbox dies with the thread that started it."""

    name = "pool"

    def __init__(self, spawn: Callable[[], Guest], workers: int, python: str = "") -> None:
        """``spawn`` starts a guest; ``python`` is the version of Python in it, for the record."""
        self.python = python
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._ahead = 4 * workers
        shared = Gate(), Shortage()
        self._workers = [_Worker(spawn, self._tasks, *shared) for _ in range(workers)]
        self._lock = threading.Lock()  # no task enters the queue after the workers' end marks
        self._closed = False

    def execute(self, jobs: Iterable[ProgramJob]) -> Iterator[tuple[int, Outcome]]:
        """Start the jobs now; yield ``(index, outcome)`` as they finish.

        At most four jobs per worker are drawn from ``jobs`` ahead of the results taken. Scripts run in workers'
        threads; what one raises is raised here. Raises SandboxError if the sandbox is broken or closed.
        """
        batch, numbered = _Batch(), enumerate(jobs)
        under_way = sum(self._put(batch, numbered) for _ in range(self._ahead))
        return self._results(batch, numbered, under_way)

    def _put(self, batch: _Batch, numbered: Iterator[tuple[int, ProgramJob]]) -> bool:
        for index, job in numbered:
            with self._lock:
                if self._closed:
                    raise SandboxError("the executor is closed; open another one")
                self._tasks.put(_Task(index, job, batch))
            return True
        return False

    def _results(
        self, batch: _Batch, numbered: Iterator[tuple[int, ProgramJob]], under_way: int
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
        """The running guests."""
        return tuple(guest for worker in self._workers for guest in worker.guests.values())

    def close(self) -> None:
        """End every worker and its guests; unfinished jobs raise SandboxError in their callers."""
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
    """One thread with one guest, and a second guest for trusted inputs once there are any."""

    def __init__(
        self, spawn: Callable[[], Guest], tasks: queue.SimpleQueue[_Task | None], gate: Gate, shortage: Shortage
    ) -> None:
        self._spawn, self._tasks, self._gate, self._shortage = spawn, tasks, gate, shortage
        self._closed = threading.Event()
        self.guests: dict[bool, Guest] = {}  # by whether it runs trusted inputs, and only those
        self.thread = threading.Thread(target=self._work, name="sandbox", daemon=True)
        self.thread.start()

    def close(self) -> None:
        self._closed.set()
        for guest in list(self.guests.values()):
            guest.interrupt()

    def _work(self) -> None:
        with suppress(SandboxError):  # a failure here repeats at the first job, and is raised there
            self._ready(False, "")
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
        runs: list[ProgramRun] = []
        script, result = task.job.script(), None
        try:
            given = next(script)
            while not task.batch.cancelled:
                run = self._run(task.job, given)
                if task.job.keep_runs:
                    runs.append(run)
                given = script.send(run)
        except StopIteration as end:
            result = end.value
        finally:
            self._end_job()
        return Outcome(tuple(runs), result)

    def _end_job(self) -> None:
        for trusted, guest in list(self.guests.items()):
            try:
                guest.done()
            except GuestLost:
                self._drop(trusted)

    def _run(self, job: ProgramJob, given: Input) -> ProgramRun:
        with self._gate.beside_others():
            run, why = self._attempt(job, given)
        self._gate.count_first(run.seconds / job.limits.wall_seconds)
        if not why or not self._gate.grants_more:
            return run
        wall = job.limits.wall_seconds
        patient = replace(job, limits=replace(job.limits, wall_seconds=PATIENCE * wall)) if why == "load" else job
        alone = why == "load" or self._shortage.is_new()
        with self._gate.second_chance() if alone else self._gate.beside_others():
            again = self._once(patient, given) or run
        if again.status != "ok":
            self._gate.count_wasted(again.seconds / wall)
        return again

    def _once(self, job: ProgramJob, given: Input) -> ProgramRun | None:
        """Run one input; None if its guest is lost."""
        trusted = isinstance(given, Trusted)
        try:
            return self._ask(self._ready(trusted, "" if trusted else job.prelude), job, given)[0]
        except GuestLost:
            self._drop(trusted)
            return None

    def _attempt(self, job: ProgramJob, given: Input) -> tuple[ProgramRun, Doubt]:
        """Run one input, replacing lost guests; return too why its end is in doubt."""
        reasons: list[str] = []
        trusted = isinstance(given, Trusted)
        while len(reasons) < 2:
            guest = self._ready(trusted, "" if trusted else job.prelude)
            try:
                return self._ask(guest, job, given)
            except GuestLost as lost:
                self._drop(trusted)
                reasons.append(str(lost))
        self._prove(job.prelude)
        detail = f"the program ended its sandbox twice; it {reasons[-1]}"
        return ProgramRun("violation", -9, "", "", None, 0.0, detail), ""

    def _prove(self, prelude: str) -> None:
        """Raise SandboxError unless a trivial program with this prelude runs in a sandbox."""
        for _ in range(2):
            guest = self._ready(False, prelude)
            try:
                run, _ = self._ask(guest, replace(TRIVIAL, prelude=prelude), Stdin(""))
            except GuestLost as lost:
                self._drop(False)
                reason = str(lost)
                continue
            if (run.status, run.stdout) == ("ok", "1\n"):
                return
            reason = f"ended it with {run.status}: {run.detail}"
        raise SandboxError(f"a trivial program does not run in a fresh sandbox, which {reason}")

    def _ask(self, guest: Guest, job: ProgramJob, given: Input) -> tuple[ProgramRun, Doubt]:
        header = {"program": job.program, "prelude": job.prelude, "limits": asdict(job.limits), **request(given)}
        header["most_inputs"] = getattr(job.script, "most_inputs", 0)
        body = given.text.encode("utf-8", "surrogatepass") if isinstance(given, Stdin) else b""
        if len(body) > MOST_STDIN:
            raise DataError(f"an input of {len(body)} bytes for standard input; a sandbox takes {MOST_STDIN} at most")
        answer, output = guest.ask(header, body, job.limits.wall_seconds + GRACE_SECONDS)
        run = read_run(answer, output)
        if answer["spent"] or guest.asked >= LIFE:
            self._drop(isinstance(given, Trusted))
        return run, doubt(run, answer.get("waited"), job.limits)

    def _ready(self, trusted: bool, prelude: str) -> Guest:
        """Return a guest that has the prelude, starting one if needed. Raises SandboxError."""
        for pause in PAUSES:
            if self._closed.is_set():
                break
            try:
                if trusted not in self.guests:
                    self.guests[trusted] = self._spawn()
                self.guests[trusted].prepare(prelude)
            except Exception as error:  # of any kind: no program is at fault if a sandbox does not start
                self._drop(trusted)
                reason = str(error)
                self._closed.wait(pause)
                continue
            if not self._closed.is_set():  # else it was closed while the guest started, too early to interrupt it
                return self.guests[trusted]
        if self._closed.is_set():
            raise SandboxError("the executor was closed before the job was done")
        raise SandboxError(f"no sandbox starts, at {len(PAUSES)} tries; the last one {reason}")

    def _drop(self, trusted: bool) -> None:
        guest = self.guests.pop(trusted, None)
        if guest is not None:
            guest.stop()
