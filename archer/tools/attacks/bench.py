"""Measure an executor on this machine: latency, throughput, how fast bombs are killed, what a long run leaves.

Every figure covers whole runs as the host sees them: a fresh process, the program, its end, the answer.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from random import Random

import numpy as np

from archer.evaluation.reference_programs import ReferenceProgram, judge_programs
from archer.sandbox import Sandbox, open_executor
from archer.sandbox.base import Executor, Limits, ProgramJob, Stdin, in_order
from archer.system import cores
from archer.tools.attacks.corpus import TASKS, read_honest

HONEST = "print(sum(map(int, input().split())))"
SUM = Stdin("3 4")
LIMITS = Limits(cpu_seconds=0.5, wall_seconds=1.0, memory_bytes=256 * 2**20, output_bytes=2**20)
FORK = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
FORKED = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
STUBBORN = "import signal\nfor s in set(range(1, 32)) - {9, 19}: signal.signal(s, signal.SIG_IGN)\nwhile True: pass"
# Name: program, and the limit in seconds that must end it.
BOMBS = {
    "loop": ("while True: pass", LIMITS.cpu_seconds),
    "loop in C": ("sum(range(10**12))", LIMITS.cpu_seconds),
    "signals ignored": (STUBBORN, LIMITS.cpu_seconds),
    "forked loops": (FORKED, LIMITS.cpu_seconds),
    "fork bomb": (FORK, LIMITS.cpu_seconds),
    "memory": ("x = []\nwhile True: x.append(bytearray(2**20))", LIMITS.cpu_seconds),
    "flood": ("while True: print('x' * 10000)", LIMITS.cpu_seconds),
    "sleep": ("import time\ntime.sleep(60)", LIMITS.wall_seconds),
}
# Programs that leave as much behind as they can and end by themselves.
LEFTOVERS = {
    "daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)",
    "double fork": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(60)",
    "files": "for i in range(50): open(str(i), 'w').write('x' * 1000)",
    "folders": "import os\nos.makedirs('a/b/c')",
    "threads": "import threading, time, os\nfor _ in range(9): threading.Thread(target=time.sleep, args=(9,)).start()\n"
    "os._exit(0)",
    "crash": "import os\nos.abort()",
    "no memory": "bytearray(10**12)",
    "error": "1 / 0",
}


@dataclass(frozen=True)
class BenchFigure:
    """One measured line: its name, its value, and a note on how it was measured."""

    name: str
    value: str
    note: str = ""


def latency(sandbox: Sandbox, count: int = 500) -> list[BenchFigure]:
    """Return the milliseconds of one test in a warm sandbox, run one after another."""
    job = ProgramJob(HONEST, in_order(SUM), LIMITS)
    with opened(replace(sandbox, workers=1)) as executor:
        seconds = [timed(executor, job) for _ in range(count + 20)][20:]
    return [percentiles("per test, fresh process, warm", seconds, f"{count} tests, one worker")]


def throughput(sandbox: Sandbox, seconds: float = 5.0) -> list[BenchFigure]:
    """Return the programs per second of all workers, with one test and with ten tests each."""
    figures = []
    with opened(sandbox) as executor:
        for tests in (1, 10):
            job = ProgramJob(HONEST, in_order(*[SUM] * tests), LIMITS)
            list(executor.execute([job] * 50))
            begin, done = time.perf_counter(), 0
            for _ in executor.execute(cycle([job])):
                done += 1
                if time.perf_counter() - begin > seconds:
                    break
            rate = done / (time.perf_counter() - begin)
            plural = "test" if tests == 1 else "tests"
            figures.append(
                BenchFigure(f"programs/s, {tests} {plural} each", f"{rate:.0f}", f"{rate * tests:.0f} tests/s")
            )
    return figures


def kills(sandbox: Sandbox, each: int = 8) -> list[BenchFigure]:
    """Return how long after its limit a bomb with all its processes is gone, and how it slows a neighbour."""
    honest = ProgramJob(HONEST, in_order(SUM), LIMITS)
    late: list[float] = []
    single = replace(sandbox, workers=1)
    with opened(single) as executor, opened(single) as neighbour:
        alone = [timed(neighbour, honest) for _ in range(300)]
        beside: list[float] = []
        ended = threading.Event()

        def work() -> None:
            while not ended.wait(0.01):  # paced, so that it takes no CPU time from the bombs
                beside.append(timed(neighbour, honest))

        with ThreadPoolExecutor(1) as threads:
            noticing = threads.submit(work)
            try:
                for program, limit in list(BOMBS.values()) * each:
                    [(_, outcome)] = executor.execute([ProgramJob(program, in_order(Stdin("")), LIMITS)])
                    late.append(outcome.runs[0].seconds - limit)
            finally:
                ended.set()
            noticing.result()  # raises the error of an honest program that was not right
    p99 = float(np.quantile(late, 0.99))
    return [
        BenchFigure("bombs gone after their limit, p99", f"{p99:+.2f} s", f"{len(late)} bombs of {len(BOMBS)} kinds"),
        percentiles("neighbour alone", alone),
        percentiles("neighbour beside bombs", beside, f"{len(beside)} programs, all right"),
    ]


def soaked(sandbox: Sandbox, programs: int) -> list[BenchFigure]:
    """Run many programs, one in five of them hostile, and return what remains on the host."""
    others = remaining(sandbox)
    with opened(sandbox) as executor:
        list(outcomes(executor, mixture(300)))
        gc.collect()
        before = usage()
        counted = Counter(outcomes(executor, mixture(programs)))
        gc.collect()
        after = usage()
        guests = remaining(sandbox) - others
    left = remaining(sandbox) - others
    honest = sum(number for (kind, _), number in counted.items() if kind == "honest")
    return [
        BenchFigure("soak", f"{counted.total()} programs", f"{counted.total() - honest} hostile"),
        BenchFigure("honest programs not right", str(honest - counted["honest", "ok"])),
        BenchFigure(
            "sandboxes at work, then after", f"{guests}, {left}", "processes or containers; none after is right"
        ),
        BenchFigure("descriptors gained", f"{after[0] - before[0]:+d}"),
        BenchFigure("host memory gained", f"{(after[1] - before[1]) / 2**20:+.1f} MB"),
    ]


def mixture(programs: int) -> Iterator[tuple[str, ProgramJob]]:
    """Yield ``programs`` jobs with their kind: honest ones, and every fifth a hostile one of the next kind."""
    quick = replace(LIMITS, cpu_seconds=0.1, wall_seconds=0.3)
    hostile = cycle([*[program for program, _ in BOMBS.values()], *LEFTOVERS.values(), *LEFTOVERS.values()])
    for index in range(programs):
        if index % 5:
            yield "honest", ProgramJob(HONEST, in_order(SUM), LIMITS)
        else:
            yield "hostile", ProgramJob(next(hostile), in_order(Stdin("")), quick)


def outcomes(executor: Executor, jobs: Iterator[tuple[str, ProgramJob]]) -> Iterator[tuple[str, str]]:
    """Yield every job's kind and status; ``wrong`` for an honest program that printed another sum."""
    kinds: list[str] = []

    def drawn() -> Iterator[ProgramJob]:
        for kind, job in jobs:
            kinds.append(kind)
            yield job

    for index, outcome in executor.execute(drawn()):
        [run] = outcome.runs
        wrong = kinds[index] == "honest" and run.status == "ok" and run.stdout != "7\n"
        yield kinds[index], "wrong" if wrong else run.status


def timed(executor: Executor, job: ProgramJob) -> float:
    """Run one job and return its seconds. Raises RuntimeError for an honest program that is not right."""
    begin = time.perf_counter()
    [(_, outcome)] = executor.execute([job])
    seconds = time.perf_counter() - begin
    if outcome.runs[0].stdout != "7\n":
        raise RuntimeError(f"an honest program ended with {outcome.runs[0]}")
    return seconds


def percentiles(name: str, seconds: Sequence[float], note: str = "") -> BenchFigure:
    """Return durations as their median and 95th percentile, in milliseconds."""
    p50, p95 = (1000 * float(np.quantile(seconds, share)) for share in (0.5, 0.95))
    return BenchFigure(name, f"p50 {p50:.1f} ms, p95 {p95:.1f} ms", note)


@contextmanager
def opened(sandbox: Sandbox) -> Iterator[Executor]:
    """Open an executor and close it at the end."""
    executor = open_executor(sandbox)
    try:
        yield executor
    finally:
        executor.close()


def usage() -> tuple[int, int]:
    """Return the number of this process's open descriptors, and its resident bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE")


def remaining(sandbox: Sandbox) -> int:
    """Return the number of this process's child processes and containers."""
    if sandbox.executor != "docker":
        return len(children())
    from archer.sandbox.docker import left_over

    return len(children()) + left_over(sandbox.docker_hosts)


def children() -> list[str]:
    """Return the ids of this process's children, zombies included."""
    while True:
        try:
            return [
                pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()
            ]
        except (FileNotFoundError, ProcessLookupError):  # a thread ended; its children are another's now
            continue


def steadiness(
    sandbox: Sandbox, programs: Sequence[ReferenceProgram], rounds: int = 5, times: int = 2
) -> list[BenchFigure]:
    """Judge programs in several rounds with every core busy ``times`` over, and count verdicts that stay the same."""
    with opened(sandbox) as executor, busy(times):
        judged = judge_programs(executor, programs, rounds)
    note = f"in {rounds} rounds, cores loaded {times} times over; {len(judged.failed)} not right"
    return [BenchFigure("programs of unchanging verdict", f"{judged.stable} of {len(programs)}", note)]


def honest_programs() -> list[ReferenceProgram]:
    """Return the honest programs of the corpus, each with tests drawn for it."""
    return [
        ReferenceProgram(TASKS[honest.task].problem(honest.name, Random(honest.name)), honest.program)
        for honest in read_honest()
    ]


@contextmanager
def busy(times: int) -> Iterator[None]:
    """Keep every core busy ``times`` over."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(times * cores())]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
