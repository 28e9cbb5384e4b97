"""The sandbox's contract: what a job holds, what an outcome holds, what an executor promises.

An :class:`Outcome` describes the program; a :class:`~archer.errors.SandboxError` describes the sandbox itself. Only
an outcome may become a reward. Expected outputs never enter a sandbox that runs programs: scripts compare on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Status = Literal["ok", "error", "cpu_timeout", "wall_timeout", "memory", "output", "violation"]


@dataclass(frozen=True)
class Limits:
    """Limits on one run of a program, all its processes together; ``sandbox/limits.yaml`` overrides these defaults."""

    cpu_seconds: float = 6.0
    """CPU time, in seconds: as much as LiveCodeBench grants a test in elapsed time."""
    wall_seconds: float = 18.0
    """Elapsed time, in seconds."""
    memory_bytes: int = 512 * 2**20
    """Resident memory of all processes, and address space of each, in bytes."""
    processes: int = 16
    """Processes and threads at once."""
    open_files: int = 64
    """File descriptors of each process."""
    file_bytes: int = 16 * 2**20
    """Size of each file written, in bytes."""
    output_bytes: int = 8 * 2**20
    """Size of standard output, of standard error and of a call's result, in bytes each."""


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

    It runs in a separate sandbox that no model's program ever enters, so programs cannot read what it holds,
    such as expected values.
    """

    program: str
    function: str
    arguments: tuple[Any, ...]


Input = Stdin | Call | Expression | Trusted
Script = Generator[Input, "ProgramRun", Any]


@dataclass(frozen=True)
class ProgramRun:
    """How one process ended and what it gave."""

    status: Status
    exit_code: int
    """Negative for the number of the signal that ended it."""
    stdout: str
    """Standard output, decoded as UTF-8 with replacement."""
    stderr: str
    """The end of standard error, decoded likewise."""
    value: Any
    """The result of a call or an expression, rebuilt as exactly None, bool, int, float, complex, str, bytes, list,
    tuple, set, frozenset or dict; None for stdin runs."""
    seconds: float
    """Elapsed time."""
    detail: str = ""
    """Why the status is not ``ok``."""
    cpu_seconds: float = 0.0
    """CPU time of all its processes."""


@dataclass(frozen=True)
class InOrder:
    """The script that runs fixed inputs in order, whatever their outcomes."""

    inputs: tuple[Input, ...]

    @property
    def most_inputs(self) -> int:
        """The number of inputs."""
        return len(self.inputs)

    def __call__(self) -> Script:
        """Return a fresh generator over the inputs."""
        for given in self.inputs:  # noqa: UP028 (a tuple's iterator takes no runs)
            yield given


def in_order(*inputs: Input) -> InOrder:
    """Return the script that runs these inputs one after another."""
    return InOrder(inputs)


@dataclass(frozen=True)
class ProgramJob:
    """One program and the script of inputs to try on it, each in a fresh process."""

    program: str
    """Python source."""
    script: Callable[[], Script]
    """Starts a generator on the host, in a worker's thread: it yields an input, is sent the :class:`ProgramRun`, and
    returns when it has seen enough. So verdicts are decided outside, and testing can stop at the first failure. If it
    knows at most how many inputs it yields, whatever the program, an attribute ``most_inputs`` saves a little time."""
    limits: Limits
    """Limits on each run."""
    prelude: str = ""
    """Source executed first, in the program's own namespace: the imports that a format grants."""
    keep_runs: bool = True
    """Whether the outcome holds the runs, which may be large, beside the script's result."""


@dataclass(frozen=True)
class Outcome:
    """The runs of one job, in the script's order (none unless ``keep_runs``), and what the script returned."""

    runs: tuple[ProgramRun, ...]
    result: Any = None


class Executor(Protocol):
    """Runs batches of jobs; safe to call from several threads."""

    name: str
    python: str  # the version that runs programs

    def execute(self, jobs: Iterable[ProgramJob]) -> Iterator[tuple[int, Outcome]]:
        """Start the jobs now; yield ``(index of the job, its outcome)`` as jobs finish.

        A lost worker is replaced and its input repeated once. Raises
        :class:`~archer.errors.SandboxError` if fresh workers fail a trivial program too.
        """
        ...

    def close(self) -> None:
        """End every worker, leaving no process or descriptor behind."""
        ...
