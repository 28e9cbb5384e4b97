"""The corpus in ``sandbox/attacks/``: hostile programs, honest ones, and the tasks by which both are judged.

The first test of a task is published in its problem; the others are drawn anew for each attack run, so that a program
can pass only by solving the task, or through a hole in the sandbox.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import get_args

from pydantic import with_config

from archer.errors import DataError, did_you_mean
from archer.recipe.config import STRICT, read_yaml, typed
from archer.sandbox.base import Status
from archer.system import suite
from archer.types import Json, Problem

HIDDEN = 2  # tests of a task beside the published one
HONEST = "benign"  # the file of honest programs
REASONS = {*get_args(Status), "wrong", "no_answer"} - {"ok"}  # the verdicts an attack may expect: never "right"


@dataclass(frozen=True)
class AttackTask:
    """A problem's random tests, and a program that solves it; without a ``function`` it reads stdin."""

    function: str | None
    test: Callable[[int, int, int], tuple[Json, Json]]
    solution: str

    def problem(self, name: str, rng: Random) -> Problem:
        """Return the problem with its published test and freshly drawn hidden ones."""
        numbers = [(3, 4, 5), *(tuple(rng.randrange(10**8, 10**10) for _ in range(3)) for _ in range(HIDDEN))]
        pairs = [self.test(*three) for three in numbers]
        given = "arguments" if self.function else "stdin"
        gold = {"function": self.function, "tests": [{given: one, "expected": right} for one, right in pairs]}
        return Problem(name, "drill", f"For example {pairs[0][0]!r} gives {pairs[0][1]!r}.", "code", gold)


SUM = "print(sum(map(int, open(0).read().split())))"
ADD = "def solved_honestly(a, b):\n    return a + b\nadd = solved_honestly"  # a name to look for in memory
RUNNING = "def running(items): return list(itertools.accumulate(items))"
TASKS = {
    "sum": AttackTask(None, lambda a, b, c: (f"{a} {b}\n{c}\n", f"{a + b + c}\n"), SUM),
    "add": AttackTask("add", lambda a, b, c: ([a, b], a + b), ADD),
    "glue": AttackTask("glue", lambda a, b, c: ([f"{a}", f"{b}"], f"{a}-{b}"), "def glue(a, b): return a + '-' + b"),
    "divide": AttackTask("divide", lambda a, b, c: ([a, c], [a // c, a % c]), "divide = divmod"),
    "running": AttackTask("running", lambda a, b, c: ([[a, b, c]], [a, a + b, a + b + c]), RUNNING),
    "tally": AttackTask("tally", lambda a, b, c: ([f"{a}{b}"], dict(Counter(f"{a}{b}"))), "tally = Counter"),
}


@with_config(STRICT)
@dataclass(frozen=True)
class Attack:
    """A hostile program, the verdict reasons it may ``expect``, and whether it gets the default, longer limits."""

    name: str
    program: str
    expect: tuple[str, ...]
    task: str = "sum"
    why: str = ""
    patient: bool = False


@with_config(STRICT)
@dataclass(frozen=True)
class AttackClass:
    """A file of attacks; ``preamble`` is put before each of its programs."""

    title: str
    attacks: tuple[Attack, ...]
    why: str = ""
    preamble: str = ""


@with_config(STRICT)
@dataclass(frozen=True)
class HonestProgram:
    """An honest program, which must be judged right."""

    name: str
    program: str
    task: str = "sum"
    why: str = ""


@with_config(STRICT)
@dataclass(frozen=True)
class HonestPrograms:
    """The file of honest programs."""

    title: str
    programs: tuple[HonestProgram, ...]
    why: str = ""


@cache
def read_attacks() -> tuple[AttackClass, ...]:
    """Return every class of attacks, preambles included. Raises DataError or RecipeError naming the file."""
    files = [path for path in sorted(folder().glob("*.yaml")) if path.stem != HONEST]
    classes = [(path, typed(AttackClass, read_yaml(path), f"sandbox/attacks/{path.name}")) for path in files]
    check_entries([(path.name, attack) for path, group in classes for attack in group.attacks])
    return tuple(
        replace(
            group, attacks=tuple(replace(attack, program=group.preamble + attack.program) for attack in group.attacks)
        )
        for _, group in classes
    )


@cache
def read_honest() -> tuple[HonestProgram, ...]:
    """Return every honest program. Raises as :func:`read_attacks` does."""
    path = folder() / f"{HONEST}.yaml"
    programs = typed(HonestPrograms, read_yaml(path), f"sandbox/attacks/{path.name}").programs
    check_entries([(path.name, program) for program in programs])
    return programs


def folder() -> Path:
    """Return the folder of the corpus."""
    return suite("sandbox") / "attacks"


def check_entries(entries: list[tuple[str, Attack | HonestProgram]]) -> None:
    """Raise DataError for a name that comes twice in a file, an unknown task, and an unknown expected reason."""
    seen: set[tuple[str, str]] = set()
    for file, entry in entries:
        where = f"sandbox/attacks/{file}: {entry.name}"
        if (file, entry.name) in seen:
            raise DataError(f"{where}: the name comes twice; choose another one")
        seen.add((file, entry.name))
        if entry.task not in TASKS:
            raise DataError(f"{where}: task: unknown name {entry.task!r}{did_you_mean(entry.task, TASKS)}")
        if isinstance(entry, Attack):
            for reason in entry.expect or ("",):
                if reason not in REASONS:
                    raise DataError(f"{where}: expect: no reason {reason!r}{did_you_mean(reason, REASONS)}")
