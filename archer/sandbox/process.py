"""No sandbox: the same guest as an ordinary process, for machines that offer nothing better.

Covered: limits on CPU, wall time, memory, open files, file size and output, a fresh process per input, and
the end of whatever a program leaves running. Not covered: everything else. A program can read, write and
send all that the user can, including the expected outputs and this process.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from archer.errors import SandboxError, UserError
from archer.sandbox.child import ChildLink, interpreter
from archer.sandbox.guest import PACKAGES, PYTHON_FLAGS, Guest, GuestLost
from archer.sandbox.pool import Pool
from archer.system import suite


class ProcessExecutor(Pool):
    """Runs programs in ``workers`` ordinary processes; a context manager."""

    name = "process"

    def __init__(self, workers: int, unisolated: bool = False) -> None:
        """Start the workers.

        Raises :class:`~archer.errors.UserError` unless ``unisolated`` is True,
        :class:`~archer.errors.SandboxError` if the guest does not start.
        """
        if not unisolated:
            raise UserError(
                "sandbox: process: this runs model-written programs with all rights of your user, without "
                "any isolation; pass `--allow-unisolated` if you accept that, else set `sandbox: bubblewrap`"
            )
        try:
            guest = _spawn()
            guest.stop()
        except GuestLost as lost:
            raise SandboxError(f"sandbox: process: the guest {lost}") from None
        super().__init__(_spawn, workers, guest.python)


def _spawn() -> Guest:
    folder = tempfile.mkdtemp(prefix="archer-")
    spec = find_spec(PACKAGES[0])
    packages = str(Path(spec.origin).parent.parent) if spec and spec.origin else ""
    command = [str(interpreter()), *PYTHON_FLAGS, str(suite("sandbox") / "runner.py"), packages, "0", folder]
    link = ChildLink(command, cwd=folder, clean=lambda: shutil.rmtree(folder, ignore_errors=True))
    return Guest(link, isolating=False)
