"""Runs untrusted programs in isolated workers, on this machine or on Docker hosts.

In: ``ProgramJob`` records: a program, its inputs, its limits. Out: ``Outcome`` records: how each run ended and what it
gave. May use: errors and system. ``base`` states the contract; ``EXECUTORS`` lists the implementations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from archer.errors import MissingError, UserError, did_you_mean
from archer.sandbox.base import Executor
from archer.sandbox.bubblewrap import BubblewrapExecutor
from archer.sandbox.pool import Pool
from archer.sandbox.process import ProcessExecutor
from archer.system import cores


@dataclass(frozen=True)
class Sandbox:
    """What :func:`open_executor` starts."""

    executor: str = "bubblewrap"
    """An entry of ``EXECUTORS``."""
    workers: int = 0
    """Programs that run at once; 0: one per core."""
    docker_hosts: tuple[str, ...] = ()
    """URLs of the Docker hosts for ``docker``; none: the host that ``DOCKER_HOST`` or the default socket names."""
    unisolated: bool = False
    """Whether ``process``, which isolates nothing, is allowed."""


def _docker(sandbox: Sandbox, workers: int) -> Pool:
    try:
        from archer.sandbox.docker import DockerExecutor
    except ImportError as error:
        raise MissingError("sandbox: docker: needs `pip install 'archer-rlvr[docker]'`") from error
    return DockerExecutor(workers, sandbox.docker_hosts)


EXECUTORS: Mapping[str, Callable[[Sandbox, int], Pool]] = {
    "bubblewrap": lambda sandbox, workers: BubblewrapExecutor(workers),
    "docker": _docker,
    "process": lambda sandbox, workers: ProcessExecutor(workers, sandbox.unisolated),
}


def open_executor(sandbox: Sandbox) -> Executor:
    """Start the executor that ``sandbox`` names.

    Raises :class:`~archer.errors.UserError` for an unknown name, a negative number of workers or ``process``
    without ``unisolated``, :class:`~archer.errors.MissingError` if a package or program is not installed, and
    what the executor's constructor raises.
    """
    if sandbox.executor not in EXECUTORS:
        raise UserError(f"sandbox: unknown executor {sandbox.executor!r}{did_you_mean(sandbox.executor, EXECUTORS)}")
    if sandbox.workers < 0:
        raise UserError(f"sandbox: expected at least one worker, or 0 for one a core, found {sandbox.workers}")
    workers = sandbox.workers or cores()
    return EXECUTORS[sandbox.executor](sandbox, workers)
