"""Run every attack of the corpus through the code reward, and look for what it scored, left behind or reached.

Each attack runs in a sandbox of one worker, between a right program for the same tests and a canary that inspects what
the next program finds; this shows what one program leaves for another and what it could read of it. The host sets up
decoys (:mod:`archer.tools.attacks.decoys`) and counts its own descriptors and child processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from random import Random

from archer.errors import UserError
from archer.rewards.code import CodeReward
from archer.sandbox import Sandbox
from archer.sandbox.base import Executor, Limits, Outcome
from archer.sandbox.limits import default_limits
from archer.system import cores
from archer.tools.attacks.bench import BenchFigure, opened, remaining, usage
from archer.tools.attacks.corpus import TASKS, Attack, HonestProgram, read_attacks, read_honest
from archer.tools.attacks.decoys import Decoys, laid_out
from archer.tools.attacks.probe import difference, look
from archer.types import Problem, Verdict

TIGHT = Limits(cpu_seconds=0.3, wall_seconds=0.8, memory_bytes=256 * 2**20, output_bytes=2**20)
SLOW_SECONDS = 3.0  # of host time beside the program's own: replacing sandboxes, reading values, comparing outputs


@dataclass
class AttackRow:
    """One class of attacks: their number, those that earned a reward or had an effect, and unexpected ends."""

    title: str
    attacks: int = 0
    rewarded: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)


@dataclass
class AttackReport:
    """The result of an attack run: a row for each class, honest programs judged wrong, and effects on the host."""

    sandbox: str
    rows: list[AttackRow]
    honest: int = 0
    rejected: list[str] = field(default_factory=list)
    host: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no attack scored or had an effect, and every honest program was right.

        How an attack ended is a note: near a limit a busy machine decides it.
        """
        wrong = [name for row in self.rows for name in (*row.rewarded, *row.effects)]
        return not (wrong or self.rejected or self.host)


@dataclass(frozen=True)
class AttackRun:
    """What all attacks of one attack run share."""

    decoys: Decoys
    world: str
    seed: int

    def problem(self, entry: Attack | HonestProgram) -> Problem:
        """Return the entry's task with hidden tests drawn for it."""
        return TASKS[entry.task].problem(entry.name, Random(f"{self.seed}/{entry.name}"))

    def attack(self, executor: Executor, attack: Attack, row: AttackRow) -> None:
        """Run one attack between an honest program and the canary, and record its effects in ``row``."""
        problem = self.problem(attack)
        verdict, _ = judged(executor, problem, TASKS[attack.task].solution)
        if not verdict.passed:
            row.effects.append(f"{attack.name}: an honest program before it was judged {verdict.reason}")
        limits = default_limits() if attack.patient else TIGHT
        begin = time.perf_counter()
        verdict, outcome = judged(executor, problem, self.decoys.told(attack.program), limits)
        seconds = time.perf_counter() - begin
        row.attacks += 1
        if verdict.reason not in (*attack.expect, "right"):  # load can change what happens near a limit: try once more
            verdict, _ = judged(executor, problem, self.decoys.told(attack.program), limits)
        if verdict.passed or verdict.score:
            row.rewarded.append(attack.name)
        elif verdict.reason not in attack.expect:
            row.unexpected.append(f"{attack.name}: {verdict.reason}, expected {' or '.join(attack.expect)}")
        effects = self.effects(problem, outcome, seconds - excused(outcome, limits))
        row.effects += [f"{attack.name}: {what}" for what in effects]
        if changed := difference(self.world, look(executor)):
            row.effects.append(f"{attack.name}: the next program found another world: {changed}")

    def effects(self, problem: Problem, outcome: Outcome, seconds: float) -> list[str]:
        """Return the effects of an attack: decoys reached, secrets read, hidden outputs told.

        ``seconds`` is the host's own time; much of it is an effect too.
        """
        effects = self.decoys.reached()
        texts = ["\n".join((run.stdout, run.stderr, run.detail, shown(run.value))) for run in outcome.runs]
        if any(self.decoys.secret in text for text in texts):
            effects.append("it read a secret of the host's")
        answers = [str(test["expected"]).strip() for test in problem.gold["tests"]]
        # It may have computed the answer to its own input, in time or not.
        other = [(text, answers[1:index] + answers[max(1, index + 1) :]) for index, text in enumerate(texts)]
        if any(answer in text for text, hidden in other for answer in hidden if answer.isdigit()):
            effects.append("it told the expected output of a hidden test")
        if seconds > SLOW_SECONDS:
            effects.append(f"it took {seconds:.1f} s of the host's time")
        return effects


def shown(value: object) -> str:
    """Return a value as text; empty if it is nested too deeply."""
    try:
        return repr(value)
    except RecursionError:
        return ""


def excused(outcome: Outcome, limits: Limits) -> float:
    """Return the seconds an attack's runs may take; runs that waited for a core or ended their sandbox run again."""
    again = sum(run.status in ("wall_timeout", "violation") for run in outcome.runs)
    return sum(run.seconds for run in outcome.runs) + 2 * again * limits.wall_seconds


def run_attacks(sandbox: Sandbox, only: str = "", seed: int | None = None) -> AttackReport:
    """Run the attacks of the classes whose title contains ``only``; without it, all attacks and all honest programs.

    Raises UserError for an executor that does not isolate, and if no class matches ``only``.
    """
    refuse_process(sandbox)
    classes, programs = [group for group in read_attacks() if only in group.title], () if only else read_honest()
    if not classes:
        raise UserError(f"sandbox attack: --only {only!r}: no class of attacks has that in its title; {known()}")
    report = AttackReport(sandbox.executor, [AttackRow(group.title) for group in classes])
    entries = [(attack, row) for group, row in zip(classes, report.rows, strict=True) for attack in group.attacks]
    workers = sandbox.workers or cores()
    before = usage()[0], remaining(sandbox)
    with (
        laid_out() as decoys,
        executors(replace(sandbox, workers=1), workers) as pool,
        ThreadPoolExecutor(workers) as threads,
    ):
        seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
        shared = AttackRun(decoys, fresh_world(pool), seed)

        def work(entry: tuple[Attack, AttackRow]) -> None:
            with taken(pool) as executor:
                shared.attack(executor, *entry)

        list(threads.map(work, entries))
        honest(pool, shared, programs, report)
        report.host += decoys.strays()
    if (after := (usage()[0], remaining(sandbox))) != before:
        report.host.append(f"descriptors and sandboxes were {before} before, and are {after} after")
    return report


def refuse_process(sandbox: Sandbox) -> None:
    """Raise UserError for the executor that does not isolate."""
    if sandbox.executor == "process":
        raise UserError("sandbox: `process` isolates nothing, and these programs would attack this machine")


def known() -> str:
    """Return the titles of all classes, for an error message."""
    return "known: " + "; ".join(group.title for group in read_attacks())


def honest(
    pool: SimpleQueue[Executor], shared: AttackRun, programs: Sequence[HonestProgram], report: AttackReport
) -> None:
    """Judge every honest program with the default limits and record those not right."""
    with taken(pool) as executor:
        for program in programs:
            verdict, outcome = judged(executor, shared.problem(program), program.program)
            report.honest += 1
            if not verdict.passed:
                detail = outcome.runs[-1].detail if outcome.runs else "no program found in the text"
                report.rejected.append(f"{program.name}: {verdict.reason}: {detail}")


def judged(executor: Executor, problem: Problem, program: str, limits: Limits | None = None) -> tuple[Verdict, Outcome]:
    """Judge a program as the code block of a response; return its verdict and outcome."""
    reward = CodeReward(limits)
    job = reward.job(problem, f"``````python\n{program}\n``````")
    if isinstance(job, Verdict):
        return job, Outcome(())
    [(_, outcome)] = executor.execute([replace(job, keep_runs=True)])
    return reward.judge(problem, outcome), outcome


def fresh_world(pool: SimpleQueue[Executor]) -> str:
    """Return what the first program of a sandbox finds."""
    with taken(pool) as executor:
        return look(executor)


@contextmanager
def executors(sandbox: Sandbox, count: int) -> Iterator[SimpleQueue[Executor]]:
    """Open ``count`` executors of one worker each, so that the canary runs in the sandbox of the attack before it."""
    pool: SimpleQueue[Executor] = SimpleQueue()
    if count == 0:
        yield pool
        return
    with opened(sandbox) as executor, executors(sandbox, count - 1) as rest:
        rest.put(executor)
        yield rest


@contextmanager
def taken(pool: SimpleQueue[Executor]) -> Iterator[Executor]:
    """Take an executor from the pool and put it back at the end."""
    executor = pool.get()
    try:
        yield executor
    finally:
        pool.put(executor)


def render(report: AttackReport) -> str:
    """Return the report as text: a line for each class, every failure, and as notes what ended unexpectedly."""
    lines = [f"{report.sandbox:44} attacks  rewards  effects  unexpected"]
    for row in report.rows:
        counts = (row.attacks, len(row.rewarded), len(row.effects), len(row.unexpected))
        lines.append("{:44} {:7}  {:7}  {:7}  {:10}".format(row.title[:44], *counts))
    totals = [sum(len(part) for part in parts) for parts in columns(report.rows)]
    lines.append("{:44} {:7}  {:7}  {:7}  {:10}".format("all", sum(row.attacks for row in report.rows), *totals))
    lines.append(f"honest programs accepted: {report.honest - len(report.rejected)} of {report.honest}")
    for name, parts in zip(("rewarded", "effect", "note"), columns(report.rows), strict=True):
        lines += [f"{name}: {one}" for part in parts for one in part]
    return "\n".join(
        [*lines, *(f"rejected: {one}" for one in report.rejected), *(f"host: {one}" for one in report.host)]
    )


def summary(report: AttackReport) -> list[BenchFigure]:
    """Return a report in two lines."""
    rewarded, effects, unexpected = (sum(map(len, parts)) for parts in columns(report.rows))
    attacks = sum(row.attacks for row in report.rows)
    counts = f"{rewarded} rewards, {effects + len(report.host)} effects"
    return [
        BenchFigure("attacks", str(attacks), f"{counts}, {unexpected} not as expected"),
        BenchFigure("honest programs accepted", f"{report.honest - len(report.rejected)} of {report.honest}"),
    ]


def columns(rows: Sequence[AttackRow]) -> tuple[list[list[str]], list[list[str]], list[list[str]]]:
    """Return every row's rewarded, effects and unexpected lists, by kind."""
    return [row.rewarded for row in rows], [row.effects for row in rows], [row.unexpected for row in rows]
