"""Running untrusted programs: see ``base`` for the contract, ``EXECUTORS`` for who keeps it."""

from __future__ import annotations

from archer.errors import UserError, did_you_mean
from archer.execution.base import Executor
from archer.execution.bubblewrap import Bubblewrap
from archer.execution.process import Process

EXECUTORS: dict[str, type[Bubblewrap | Process]] = {
    "bubblewrap": Bubblewrap,
    "process": Process,
}


def open_executor(name: str, workers: int, unisolated: bool = False) -> Executor:
    """Start the executor of that name; ``unisolated`` accepts one that isolates nothing.

    Raises :class:`~archer.errors.UserError` for an unknown name, for no workers or for ``process`` without
    ``unisolated``, and what the executor's constructor raises.
    """
    if name not in EXECUTORS:
        raise UserError(f"sandbox: unknown executor {name!r}{did_you_mean(name, EXECUTORS)}")
    if workers < 1:
        raise UserError(f"sandbox: expected at least one worker, found {workers}")
    kind = EXECUTORS[name]
    return kind(workers, unisolated) if issubclass(kind, Process) else kind(workers)
