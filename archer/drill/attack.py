"""The drill: every attack of the corpus through the real reward, and a look for what it left or reached.

Each attack runs in a sandbox of one worker, between a right program for the same tests and a canary that
looks at the world a next program finds; so what one leaves for another, and what it could read of another,
would show. The host lays out bait (:mod:`archer.drill.bait`) and counts its own descriptors and children.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from random import Random

from archer.drill.bait import Bait, laid_out
from archer.drill.bench import children, opened, usage
from archer.drill.corpus import TASKS, Attack, Program, read_attacks, read_honest
from archer.errors import UserError
from archer.execution import Sandbox
from archer.execution.base import Executor, Job, Limits, Outcome, Stdin, in_order
from archer.execution.limits import default_limits
from archer.machine import cores
from archer.rewards.code import Code
from archer.types import Problem, Verdict

TIGHT = Limits(cpu_seconds=0.3, wall_seconds=0.8, memory_bytes=256 * 2**20, output_bytes=2**20)
# Prints what a program finds: files, processes, descriptors, limits, settings, and whether Python is itself.
CANARY = """
import builtins, json, os, resource, signal, sys, threading
world = {
    "files": [os.listdir("/tmp"), os.listdir("/dev/shm")],
    "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    "queues": [len(open("/proc/sysvipc/" + kind).readlines()) for kind in ("shm", "msg", "sem")],
    "descriptors": len(os.listdir("/proc/self/fd")),
    "limits": [resource.getrlimit(which) for which in range(16)],
    "environment": dict(os.environ), "umask": os.umask(0o22), "folder": os.getcwd(), "path": sys.path[1:],
    "signals": [str(signal.getsignal(number)) for number in (1, 2, 13, 15, 17)],
    "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
    "threads": threading.active_count(), "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "python": [json.dumps([1, "x"]), len(dir(builtins)), len("four"), sorted([2, 1]), sys.getrecursionlimit()],
    "input": sys.stdin.read(),
}
print(json.dumps(world))
"""


@dataclass
class Row:
    """One class of attacks: how many, and the names of those that did what none may."""

    title: str
    attacks: int = 0
    rewarded: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What a drill found: a row for each class, honest programs not accepted, and effects on the host."""

    sandbox: str
    rows: list[Row]
    honest: int = 0
    rejected: list[str] = field(default_factory=list)
    host: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing scored, nothing had an effect, all ended as expected, and honest programs were right."""
        wrong = [one for row in self.rows for one in (*row.rewarded, *row.effects, *row.unexpected)]
        return not (wrong or self.rejected or self.host)


@dataclass(frozen=True)
class Drill:
    """What all attacks of one drill share."""

    bait: Bait
    world: str
    seed: int

    def problem(self, entry: Attack | Program) -> Problem:
        """Return the entry's task with hidden tests of its own."""
        return TASKS[entry.task].problem(entry.name, Random(f"{self.seed}/{entry.name}"))

    def attack(self, executor: Executor, attack: Attack, row: Row) -> None:
        """Run one attack between an honest program and the canary, and note what it did."""
        problem = self.problem(attack)
        verdict, _ = judged(executor, problem, TASKS[attack.task].solution)
        if not verdict.correct:
            row.effects.append(f"{attack.name}: an honest program before it was judged {verdict.reason}")
        limits = default_limits() if attack.patient else TIGHT
        verdict, outcome = judged(executor, problem, self.bait.told(attack.program), limits)
        row.attacks += 1
        if verdict.correct or verdict.reward:
            row.rewarded.append(attack.name)
        elif verdict.reason not in attack.expect:
            row.unexpected.append(f"{attack.name}: {verdict.reason}, expected {' or '.join(attack.expect)}")
        if any(self.bait.secret in f"{run.stdout}{run.stderr}{run.detail}{run.value!r}" for run in outcome.runs):
            row.effects.append(f"{attack.name}: it read a secret of the host's")
        row.effects += [f"{attack.name}: {what}" for what in self.bait.reached()]
        if (world := look(executor)) != self.world:
            row.effects.append(f"{attack.name}: the next program found another world: {world[:300]}")


def drill(sandbox: Sandbox, only: str = "", seed: int | None = None) -> Report:
    """Run the attacks of the classes whose title holds ``only``, and all honest programs.

    Raises UserError for the executor that does not isolate.
    """
    if sandbox.executor == "process":
        raise UserError("sandbox attack: `process` isolates nothing, and these programs would attack this machine")
    classes = [one for one in read_attacks() if only in one.title]
    report = Report(sandbox.executor, [Row(one.title) for one in classes])
    entries = [(attack, row) for one, row in zip(classes, report.rows, strict=True) for attack in one.attacks]
    workers = sandbox.workers or cores()
    before = usage()[0], len(children())
    with (
        laid_out() as bait,
        executors(replace(sandbox, workers=1), workers) as pool,
        ThreadPoolExecutor(workers) as threads,
    ):
        seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
        shared = Drill(bait, fresh_world(pool), seed)

        def work(entry: tuple[Attack, Row]) -> None:
            with taken(pool) as executor:
                shared.attack(executor, *entry)

        list(threads.map(work, entries))
        honest(pool, shared, report)
    if (after := (usage()[0], len(children()))) != before:
        report.host.append(f"descriptors and children were {before} before, and are {after} after")
    return report


def honest(pool: SimpleQueue[Executor], shared: Drill, report: Report) -> None:
    """Judge every honest program with the default limits."""
    with taken(pool) as executor:
        for program in read_honest():
            verdict, outcome = judged(executor, shared.problem(program), program.program)
            report.honest += 1
            if not verdict.correct:
                report.rejected.append(f"{program.name}: {verdict.reason}: {outcome.runs[-1].detail}")


def judged(executor: Executor, problem: Problem, program: str, limits: Limits | None = None) -> tuple[Verdict, Outcome]:
    """Judge a program as the response that holds it would be."""
    reward = Code(limits)
    job = reward.job(problem, f"``````python\n{program}\n``````")
    if isinstance(job, Verdict):
        return job, Outcome(())
    [(_, outcome)] = executor.execute([job])
    return reward.judge(problem, outcome), outcome


def look(executor: Executor) -> str:
    """Return what a program finds when it starts."""
    [(_, outcome)] = executor.execute([Job(CANARY, in_order(Stdin("in")), default_limits())])
    return outcome.runs[0].stdout or outcome.runs[0].detail


def fresh_world(pool: SimpleQueue[Executor]) -> str:
    """Return what the first program of a sandbox finds."""
    with taken(pool) as executor:
        return look(executor)


@contextmanager
def executors(sandbox: Sandbox, count: int) -> Iterator[SimpleQueue[Executor]]:
    """Open executors of one worker each: only so does the canary meet the sandbox the attack was in."""
    pool: SimpleQueue[Executor] = SimpleQueue()
    if count == 0:
        yield pool
        return
    with opened(sandbox) as executor, executors(sandbox, count - 1) as rest:
        rest.put(executor)
        yield rest


@contextmanager
def taken(pool: SimpleQueue[Executor]) -> Iterator[Executor]:
    """Take an executor for a while."""
    executor = pool.get()
    try:
        yield executor
    finally:
        pool.put(executor)


def render(report: Report) -> str:
    """Return the report as text: a line for each class, then everything that should not have been."""
    lines = [f"{report.sandbox:44} attacks  rewards  effects  unexpected"]
    for row in report.rows:
        counts = (row.attacks, len(row.rewarded), len(row.effects), len(row.unexpected))
        lines.append("{:44} {:7}  {:7}  {:7}  {:10}".format(row.title[:44], *counts))
    totals = [sum(len(part) for part in parts) for parts in columns(report.rows)]
    lines.append("{:44} {:7}  {:7}  {:7}  {:10}".format("all", sum(row.attacks for row in report.rows), *totals))
    lines.append(f"honest programs accepted: {report.honest - len(report.rejected)} of {report.honest}")
    for name, parts in zip(("rewarded", "effect", "unexpected"), columns(report.rows), strict=True):
        lines += [f"{name}: {one}" for part in parts for one in part]
    return "\n".join(
        [*lines, *(f"rejected: {one}" for one in report.rejected), *(f"host: {one}" for one in report.host)]
    )


def columns(rows: Sequence[Row]) -> tuple[list[list[str]], list[list[str]], list[list[str]]]:
    """Return the lists of all rows, by kind."""
    return [row.rewarded for row in rows], [row.effects for row in rows], [row.unexpected for row in rows]
