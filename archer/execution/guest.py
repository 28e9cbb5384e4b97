"""One running guest: its process, the socket to it, and how it ends.

The guest is trusted as far as its frames go (untrusted code cannot reach its socket), but not to stay
alive: a program may take its sandbox down. That is :class:`Lost`, and what to make of it is decided by
the pool.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

HEAD = struct.Struct(">II")
START_SECONDS = 30.0
STOP_SECONDS = 2.0
# Equal programs do equal things: sets iterate in the same order in every guest.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LANG": "C.UTF-8"}
PYTHON_FLAGS = ("-S", "-s", "-B")
GUEST_FILES = ("runner.py", "watch.py", "program.py")


class Lost(Exception):
    """The guest died, fell silent or sent nonsense; the message says which, with its last words."""


def interpreter() -> Path:
    """The real file of the Python that runs us: not a virtual environment's link, not a shim."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()


class Guest:
    """A guest process. Not safe for several threads, but for :meth:`interrupt`."""

    def __init__(
        self,
        command: Sequence[str],
        cwd: str = "/",
        user: int | None = None,
        clean: Callable[[], None] | None = None,
    ) -> None:
        """Start it and wait until it is ready.

        ``user`` is who it runs as (root's choice only); ``clean`` runs after its end. Raises :class:`Lost`
        when it ends or stays silent instead.
        """
        self._clean = clean
        groups: list[int] | None = None if user is None else []
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (closed in stop)
        self._socket, inner = socket.socketpair()
        try:
            with inner:
                self._process = subprocess.Popen(
                    command,
                    stdin=inner.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=self._words,
                    cwd=cwd,
                    env=ENVIRONMENT,
                    user=user,
                    group=user,
                    extra_groups=groups,
                    start_new_session=True,  # Ctrl-C at a terminal is for the host, which then closes us
                )
        except OSError as error:
            self._close()
            raise Lost(f"did not start: {error}") from None
        try:
            self._receive(time.monotonic() + START_SECONDS)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The process that was started; with bubblewrap the guest itself is its child."""
        return int(self._process.pid)

    def ask(self, header: Mapping[str, Any], body: bytes, seconds: float) -> tuple[dict[str, Any], bytes]:
        """Send one frame and return the answer's header and body. Raises :class:`Lost`."""
        deadline = time.monotonic() + seconds
        text = json.dumps(header).encode()
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(HEAD.pack(len(text), len(body)) + text + body)
        except OSError as error:
            raise Lost(f"did not take a program: {error}{self._last_words()}") from None
        return self._receive(deadline)

    def interrupt(self) -> None:
        """Make a waiting :meth:`ask` fail with :class:`Lost`; callable from any thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """End the guest and everything in it, and wait until it is gone."""
        self._socket.close()  # its sign to end by itself
        for kill in (self._kill_inside, self._process.kill):
            try:
                self._process.wait(STOP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
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

    def _receive(self, deadline: float) -> tuple[dict[str, Any], bytes]:
        sizes = HEAD.unpack(self._read(HEAD.size, deadline))
        text, body = self._read(sizes[0], deadline), self._read(sizes[1], deadline)
        try:
            header = json.loads(text)
        except ValueError:
            raise Lost(f"sent a header that is not JSON: {bytes(text[:80])!r}") from None
        return header, bytes(body)

    def _read(self, size: int, deadline: float) -> bytearray:
        data = bytearray(size)
        view, have = memoryview(data), 0
        while have < size:
            try:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                got = self._socket.recv_into(view[have:])
            except TimeoutError:
                raise Lost("stayed silent past its deadline" + self._last_words()) from None
            except OSError as error:
                raise Lost(f"broke its connection: {error}" + self._last_words()) from None
            if not got:
                raise Lost("ended without an answer" + self._last_words())
            have += got
        return data

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
        self._words.seek(0)
        words = self._words.read().decode(errors="replace").strip()
        return f": {words[-800:]}" if words else ""
