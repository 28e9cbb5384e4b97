"""Running untrusted programs: what goes in, what comes out, and what an executor promises.

An :class:`Outcome` describes the program. A :class:`~archer.errors.SandboxError` describes us. Only the
first may become a reward. Expected outputs never appear here: the caller compares, outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from archer.types import Json

Status = Literal["ok", "error", "cpu_timeout", "wall_timeout", "memory", "output", "violation"]


@dataclass(frozen=True)
class Limits:
    """Limits on each process of a program; ``sandbox/limits.yaml`` holds the defaults."""

    cpu_seconds: float = 4.0
    wall_seconds: float = 12.0
    memory_bytes: int = 512 * 2**20
    processes: int = 16
    open_files: int = 64
    file_bytes: int = 16 * 2**20
    output_bytes: int = 8 * 2**20


@dataclass(frozen=True)
class Stdin:
    """Run the program as a script with this text on standard input."""

    text: str


@dataclass(frozen=True)
class Call:
    """Load the program, then call ``function`` (``f`` or ``Solution.f``) with JSON arguments."""

    function: str
    arguments: tuple[Json, ...]


@dataclass(frozen=True)
class Run:
    """One process: how it ended and what it gave.

    ``value`` is the call's result rebuilt from JSON (None for stdin runs); ``stdout`` and ``stderr`` are
    decoded with replacement, ``stderr`` cut to its tail. ``detail`` explains any status but ``ok``.
    """

    status: Status
    exit_code: int
    stdout: str
    stderr: str
    value: Json
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class Job:
    """One program and its inputs, each run in a fresh process, in order.

    After each run the host calls ``go_on(index, run)``; a False ends the job there, so that verdicts are
    decided outside and a failing program stops at its first failure; it is called in a worker's thread.
    ``prelude`` is executed first, in the program's own namespace: the imports that a format grants.
    """

    program: str
    inputs: tuple[Stdin | Call, ...]
    limits: Limits
    go_on: Callable[[int, Run], bool] | None = None
    prelude: str = ""


@dataclass(frozen=True)
class Outcome:
    """The runs of one job: as many as its inputs, fewer only where ``go_on`` ended it."""

    runs: tuple[Run, ...]


class Executor(Protocol):
    """Runs batches of jobs; safe to call from several threads."""

    name: str

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Outcome]]:
        """Start on the jobs now; yield ``(index of the job, its outcome)`` as jobs finish.

        A lost worker is replaced and its input repeated once. Raises
        :class:`~archer.errors.SandboxError` when fresh workers fail a trivial program too.
        """
        ...

    def close(self) -> None:
        """End every worker; no process or descriptor remains."""
        ...
