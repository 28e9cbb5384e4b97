"""The drill: every attack of the corpus through the real reward, and a look for what it left or reached.

Each attack runs in a sandbox of one worker, between a right program for the same tests and a canary that
looks at the world a next program finds; so what one leaves for another, and what it could read of another,
would show. The host lays out bait (:mod:`archer.tools.attacks.decoys`) and counts its own descriptors and children.
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
SLOW_SECONDS = 3.0  # of the host's own, beside the program's: sandboxes replaced, values read, outputs compared


@dataclass
class AttackRow:
    """One class of attacks: how many, and the names of those that did what none may."""

    title: str
    attacks: int = 0
    rewarded: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)


@dataclass
class AttackReport:
    """What a drill found: a row for each class, honest programs not accepted, and effects on the host."""

    sandbox: str
    rows: list[AttackRow]
    honest: int = 0
    rejected: list[str] = field(default_factory=list)
    host: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing scored, nothing had an effect, all ended as expected, and honest programs were right."""
        wrong = [one for row in self.rows for one in (*row.rewarded, *row.effects, *row.unexpected)]
        return not (wrong or self.rejected or self.host)


@dataclass(frozen=True)
class AttackRun:
    """What all attacks of one drill share."""

    bait: Decoys
    world: str
    seed: int

    def problem(self, entry: Attack | HonestProgram) -> Problem:
        """Return the entry's task with hidden tests of its own."""
        return TASKS[entry.task].problem(entry.name, Random(f"{self.seed}/{entry.name}"))

    def attack(self, executor: Executor, attack: Attack, row: AttackRow) -> None:
        """Run one attack between an honest program and the canary, and note what it did."""
        problem = self.problem(attack)
        verdict, _ = judged(executor, problem, TASKS[attack.task].solution)
        if not verdict.correct:
            row.effects.append(f"{attack.name}: an honest program before it was judged {verdict.reason}")
        limits = default_limits() if attack.patient else TIGHT
        begin = time.perf_counter()
        verdict, outcome = judged(executor, problem, self.bait.told(attack.program), limits)
        seconds = time.perf_counter() - begin
        row.attacks += 1
        if verdict.reason not in (*attack.expect, "right"):  # at the edge of a limit, load may tip it: once more
            verdict, _ = judged(executor, problem, self.bait.told(attack.program), limits)
        if verdict.correct or verdict.reward:
            row.rewarded.append(attack.name)
        elif verdict.reason not in attack.expect:
            row.unexpected.append(f"{attack.name}: {verdict.reason}, expected {' or '.join(attack.expect)}")
        found = self.effects(problem, outcome, seconds - excused(outcome, limits))
        row.effects += [f"{attack.name}: {what}" for what in found]
        if changed := difference(self.world, look(executor)):
            row.effects.append(f"{attack.name}: the next program found another world: {changed}")

    def effects(self, problem: Problem, outcome: Outcome, seconds: float) -> list[str]:
        """Say what an attack got hold of or did, ``seconds`` of the host's own time included."""
        found = self.bait.reached()
        said = ["\n".join((run.stdout, run.stderr, run.detail, shown(run.value))) for run in outcome.runs]
        if any(self.bait.secret in text for text in said):
            found.append("it read a secret of the host's")
        answers = [str(test["expected"]).strip() for test in problem.gold["tests"]]
        # The answer to its own input it may have worked out, in time or not.
        other = [(text, answers[1:index] + answers[max(1, index + 1) :]) for index, text in enumerate(said)]
        if any(answer in text for text, hidden in other for answer in hidden if answer.isdigit()):
            found.append("it told the expected output of a hidden test")
        if seconds > SLOW_SECONDS:
            found.append(f"it took {seconds:.1f} s of the host's time")
        return found


def shown(value: object) -> str:
    """Return a value as text, also one that is nested too deep for it."""
    try:
        return repr(value)
    except RecursionError:
        return ""


def excused(outcome: Outcome, limits: Limits) -> float:
    """Return the seconds that an attack's runs may take: one that waited for a core or ended its sandbox ran again."""
    again = sum(run.status in ("wall_timeout", "violation") for run in outcome.runs)
    return sum(run.seconds for run in outcome.runs) + 2 * again * limits.wall_seconds


def run_attacks(sandbox: Sandbox, only: str = "", seed: int | None = None) -> AttackReport:
    """Run the attacks of the classes whose title holds ``only``; for all of them, all honest programs too.

    Raises UserError for the executor that does not isolate, and for ``only`` where no class has it.
    """
    refuse_process(sandbox)
    classes, programs = [one for one in read_attacks() if only in one.title], () if only else read_honest()
    if not classes:
        raise UserError(f"sandbox attack: --only {only!r}: no class of attacks has that in its title; {known()}")
    report = AttackReport(sandbox.executor, [AttackRow(one.title) for one in classes])
    entries = [(attack, row) for one, row in zip(classes, report.rows, strict=True) for attack in one.attacks]
    workers = sandbox.workers or cores()
    before = usage()[0], remaining(sandbox)
    with (
        laid_out() as bait,
        executors(replace(sandbox, workers=1), workers) as pool,
        ThreadPoolExecutor(workers) as threads,
    ):
        seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
        shared = AttackRun(bait, fresh_world(pool), seed)

        def work(entry: tuple[Attack, AttackRow]) -> None:
            with taken(pool) as executor:
                shared.attack(executor, *entry)

        list(threads.map(work, entries))
        honest(pool, shared, programs, report)
        report.host += bait.strays()
    if (after := (usage()[0], remaining(sandbox))) != before:
        report.host.append(f"descriptors and sandboxes were {before} before, and are {after} after")
    return report


def refuse_process(sandbox: Sandbox) -> None:
    """Raise UserError for the executor that does not isolate."""
    if sandbox.executor == "process":
        raise UserError("sandbox: `process` isolates nothing, and these programs would attack this machine")


def known() -> str:
    """Name the classes."""
    return "known: " + "; ".join(one.title for one in read_attacks())


def honest(
    pool: SimpleQueue[Executor], shared: AttackRun, programs: Sequence[HonestProgram], report: AttackReport
) -> None:
    """Judge every honest program with the default limits."""
    with taken(pool) as executor:
        for program in programs:
            verdict, outcome = judged(executor, shared.problem(program), program.program)
            report.honest += 1
            if not verdict.correct:
                detail = outcome.runs[-1].detail if outcome.runs else "no program found in the text"
                report.rejected.append(f"{program.name}: {verdict.reason}: {detail}")


def judged(executor: Executor, problem: Problem, program: str, limits: Limits | None = None) -> tuple[Verdict, Outcome]:
    """Judge a program as the response that holds it would be."""
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


def render(report: AttackReport) -> str:
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


def summary(report: AttackReport) -> list[BenchFigure]:
    """Return a report in two lines."""
    rewarded, effects, unexpected = (sum(map(len, parts)) for parts in columns(report.rows))
    attacks = sum(row.attacks for row in report.rows)
    found = f"{rewarded} rewards, {effects + len(report.host)} effects"
    return [
        BenchFigure("attacks", str(attacks), f"{found}, {unexpected} not as expected"),
        BenchFigure("honest programs accepted", f"{report.honest - len(report.rejected)} of {report.honest}"),
    ]


def columns(rows: Sequence[AttackRow]) -> tuple[list[list[str]], list[list[str]], list[list[str]]]:
    """Return the lists of all rows, by kind."""
    return [row.rewarded for row in rows], [row.effects for row in rows], [row.unexpected for row in rows]
