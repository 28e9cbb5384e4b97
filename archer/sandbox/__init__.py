"""Running untrusted programs: see ``base`` for the contract, ``EXECUTORS`` for who keeps it."""

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
    """Which executor, and how: ``workers`` 0 means one a core; ``engines`` are Docker's, by URL.

    ``unisolated`` accepts an executor that isolates nothing.
    """

    executor: str = "bubblewrap"
    workers: int = 0
    engines: tuple[str, ...] = ()
    unisolated: bool = False


def _docker(sandbox: Sandbox, workers: int) -> Pool:
    try:
        from archer.sandbox.docker import DockerExecutor
    except ImportError as error:
        raise MissingError("sandbox: docker: needs `pip install 'archer-rlvr[docker]'`") from error
    return DockerExecutor(workers, sandbox.engines)


EXECUTORS: Mapping[str, Callable[[Sandbox, int], Pool]] = {
    "bubblewrap": lambda sandbox, workers: BubblewrapExecutor(workers),
    "docker": _docker,
    "process": lambda sandbox, workers: ProcessExecutor(workers, sandbox.unisolated),
}


def open_executor(sandbox: Sandbox) -> Executor:
    """Start the executor that ``sandbox`` names.

    Raises :class:`~archer.errors.UserError` for an unknown name, for no workers or for ``process`` without
    ``unisolated``, :class:`~archer.errors.MissingError` where something is to be installed, and what the
    executor's constructor raises.
    """
    if sandbox.executor not in EXECUTORS:
        raise UserError(f"sandbox: unknown executor {sandbox.executor!r}{did_you_mean(sandbox.executor, EXECUTORS)}")
    if sandbox.workers < 0:
        raise UserError(f"sandbox: expected at least one worker, or 0 for one a core, found {sandbox.workers}")
    workers = sandbox.workers or cores()
    return EXECUTORS[sandbox.executor](sandbox, workers)
