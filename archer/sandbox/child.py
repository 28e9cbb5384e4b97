"""A guest in a child process, reached by a socket pair: for the ``bubblewrap`` and ``process`` executors."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from archer.sandbox.guest import ENVIRONMENT, GuestLost

STOP_SECONDS = 2.0


def interpreter() -> Path:
    """Return the real file of the running Python: not a virtual environment's link, not a shim."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()


class ChildLink:
    """The link to a child process; see :class:`archer.sandbox.guest.Link`."""

    def __init__(
        self,
        command: Sequence[str],
        cwd: str = "/",
        user: int | None = None,
        clean: Callable[[], None] | None = None,
    ) -> None:
        """Start ``command``.

        ``user`` is the user ID that it runs as (root only); ``clean`` is called after its end. Raises
        :class:`~archer.sandbox.guest.GuestLost` if it does not start.
        """
        self._clean = clean
        groups: list[int] | None = None if user is None else []
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (closed in end)
        self._socket, inner = socket.socketpair()
        try:
            with inner:
                self._process = subprocess.Popen(
                    command,
                    stdin=inner.fileno(),
                    stdout=inner.fileno(),
                    stderr=self._words,
                    cwd=cwd,
                    env=ENVIRONMENT,
                    user=user,
                    group=user,
                    extra_groups=groups,
                    start_new_session=True,  # Ctrl-C at a terminal goes to the host, which then closes the guest
                )
        except OSError as error:
            self._release()
            raise GuestLost(f"did not start: {error}") from None

    @property
    def pid(self) -> int:
        """The process ID of ``command``; with bubblewrap the guest is its child."""
        return int(self._process.pid)

    def write(self, data: bytes, deadline: float) -> None:
        """Send all of ``data``."""
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        self._socket.sendall(data)

    def read_into(self, view: memoryview, deadline: float) -> int:
        """Receive bytes into ``view``; return how many, 0 at the end."""
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        return self._socket.recv_into(view)

    def interrupt(self) -> None:
        """Make a waiting read end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def words(self) -> str:
        """Return the guest's standard error, waiting up to 0.2 s for its end."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
        self._words.seek(0)
        return self._words.read().decode(errors="replace")

    def end(self) -> None:
        """End the guest and everything in it, and wait until it is gone."""
        self._socket.close()  # tells the guest to end by itself
        for kill in (self._kill_inside, self._process.kill):
            try:
                self._process.wait(STOP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                kill()
        self._process.wait()
        self._release()

    def _release(self) -> None:
        self._socket.close()
        self._words.close()
        if self._clean is not None:
            self._clean()

    def _kill_inside(self) -> None:
        # Children first: bubblewrap reaps its process 1, and with it the namespace, before it ends itself.
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        for child in children.read_text().split() if children.exists() else ():
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
