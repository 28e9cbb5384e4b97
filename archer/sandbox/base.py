"""Running untrusted programs: what goes in, what comes out, and what an executor promises.

An :class:`Outcome` describes the program. A :class:`~archer.errors.SandboxError` describes us. Only the
first may become a reward. Expected outputs never enter a sandbox that runs programs: scripts compare, outside.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Status = Literal["ok", "error", "cpu_timeout", "wall_timeout", "memory", "output", "violation"]


@dataclass(frozen=True)
class Limits:
    """Limits on one run of a program; ``sandbox/limits.yaml`` says what counts how, and holds the defaults."""

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
    """Load the program, then call ``function`` (``f``, or ``Solution.f``) with plain values."""

    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Expression:
    """Load the program, then execute ``setup`` and evaluate ``text`` in the program's own namespace."""

    text: str
    setup: str = ""


@dataclass(frozen=True)
class Trusted:
    """Load ``program``, a data set's code instead of the job's, then call ``function`` with plain values.

    It runs in a sandbox of its own kind, which no model's program ever enters, before or after: what it
    holds, such as expected values, cannot be read by a program.
    """

    program: str
    function: str
    arguments: tuple[Any, ...]


Input = Stdin | Call | Expression | Trusted
Script = Generator[Input, "ProgramRun", Any]


@dataclass(frozen=True)
class ProgramRun:
    """One process: how it ended and what it gave.

    ``value`` is the result of a call or an expression, rebuilt from plain data (None for stdin runs):
    None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, of exactly these types.
    ``stdout`` and ``stderr`` are decoded with replacement, ``stderr`` cut to its tail. ``detail`` explains
    any status but ``ok``. ``seconds`` is elapsed time, ``cpu_seconds`` that of all its processes.
    """

    status: Status
    exit_code: int
    stdout: str
    stderr: str
    value: Any
    seconds: float
    detail: str = ""
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class InOrder:
    """The script that runs fixed inputs one after another, whatever comes out."""

    inputs: tuple[Input, ...]

    def __call__(self) -> Script:
        """Start anew."""
        for given in self.inputs:  # noqa: UP028 (a tuple's iterator takes no runs)
            yield given


def in_order(*inputs: Input) -> InOrder:
    """Return the script that runs these inputs one after another."""
    return InOrder(inputs)


@dataclass(frozen=True)
class ProgramJob:
    """One program and the script of what to try on it, each input in a fresh process.

    ``script()`` starts a generator on the host, in a worker's thread: it yields an input, is sent the
    :class:`ProgramRun`, and ends when it has seen enough. So verdicts are decided outside, and a failing program
    stops at its first failure. ``prelude`` is executed first, in the program's own namespace: the imports
    that a format grants. Runs may be large, so a job whose script's result says all need not keep them.
    """

    program: str
    script: Callable[[], Script]
    limits: Limits
    prelude: str = ""
    keep_runs: bool = True


@dataclass(frozen=True)
class Outcome:
    """The runs of one job that were kept, in the order in which its script asked, and what the script returned."""

    runs: tuple[ProgramRun, ...]
    result: Any = None


class Executor(Protocol):
    """Runs batches of jobs; safe to call from several threads."""

    name: str
    python: str  # the version that runs programs

    def execute(self, jobs: Iterable[ProgramJob]) -> Iterator[tuple[int, Outcome]]:
        """Start on the jobs now; yield ``(index of the job, its outcome)`` as jobs finish.

        A lost worker is replaced and its input repeated once. Raises
        :class:`~archer.errors.SandboxError` when fresh workers fail a trivial program too.
        """
        ...

    def close(self) -> None:
        """End every worker; no process or descriptor remains."""
        ...
