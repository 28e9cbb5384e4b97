"""One running guest as the host sees it: frames over a link, and how it ends.

The guest's frames are trusted (untrusted code cannot reach its link), but a program may take its sandbox down.
Then :class:`GuestLost` is raised, and the pool decides what that means.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Mapping
from typing import Any, Protocol

HEAD = struct.Struct(">II")
START_SECONDS = 30.0
# Sets iterate in the same order in every guest, so equal programs give equal results.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LANG": "C.UTF-8"}
PYTHON_FLAGS = ("-S", "-s", "-B")
# In import order: every module after those that it imports; the last one is run.
GUEST_FILES = (
    "seccomp.json", "syscalls.json", "confine.py", "counters.py", "charge.py", "watch.py", "values.py", "program.py",
    "runner.py",
)  # fmt: skip
PACKAGES = ("numpy", "sortedcontainers")  # what programs may import beside the standard library
MOST_PRELUDE = 16_000  # characters of at most 4 bytes: what fits into a pipe inside the guest
NOBODY = 65534
FOLDERS = {"/tmp": 64 * 2**20, "/dev/shm": 2**20}  # what programs may write to, and how much they may store
# What a program does not find: counts and settings of the machine, by which one could tell another what it did;
# terminals, and memory shared without a file, which no limit counts.
HIDDEN_FOLDERS = (
    "/proc/acpi", "/proc/asound", "/proc/bus", "/proc/driver", "/proc/fs", "/proc/irq", "/proc/pressure", "/proc/scsi",
    "/proc/sys", "/proc/tty", "/dev/pts",
)  # fmt: skip
HIDDEN_FILES = (
    "/proc/1/sched", "/proc/1/schedstat", "/proc/1/stat", "/proc/1/task/1/sched", "/proc/1/task/1/schedstat",
    "/proc/1/task/1/stat", "/proc/buddyinfo", "/proc/cgroups", "/proc/diskstats", "/proc/interrupts", "/proc/kcore",
    "/proc/key-users", "/proc/keys", "/proc/latency_stats", "/proc/locks", "/proc/mdstat", "/proc/pagetypeinfo",
    "/proc/sched_debug", "/proc/schedstat", "/proc/slabinfo", "/proc/softirqs", "/proc/stat", "/proc/swaps",
    "/proc/timer_list", "/proc/timer_stats", "/proc/uptime", "/proc/vmallocinfo", "/proc/vmstat", "/proc/zoneinfo",
    "/dev/zero",
)  # fmt: skip
WORDS = 800  # characters of a lost guest's standard error to quote


class GuestLost(Exception):
    """The guest died, fell silent or sent nonsense; the message says which and quotes its standard error."""


class Link(Protocol):
    """A byte stream to and from a guest. Not thread-safe, except :meth:`interrupt`."""

    def write(self, data: bytes, deadline: float) -> None:
        """Send all of ``data``. Raises OSError, of which TimeoutError at the deadline (monotonic seconds)."""
        ...

    def read_into(self, view: memoryview, deadline: float) -> int:
        """Receive bytes into ``view``; return how many, 0 at the end. Raises as :meth:`write` does."""
        ...

    def interrupt(self) -> None:
        """Make a waiting read fail or end; callable from any thread."""
        ...

    def words(self) -> str:
        """Return the guest's standard error, waiting a moment for its end."""
        ...

    def end(self) -> None:
        """End the guest and everything in it, wait until it is gone, and release what the link holds."""
        ...


class Guest:
    """A guest that takes inputs. Not thread-safe, except :meth:`interrupt`."""

    def __init__(self, link: Link, isolating: bool = True) -> None:
        """Wait until the guest is ready and reports ``python``, the version that runs programs.

        Ends the guest and raises :class:`GuestLost` if it ends or stays silent, or if ``isolating`` and it reports
        that it is not isolated.
        """
        self.link, self.asked = link, 0
        self._prepared: set[str] = set()
        self._in_job = self._leaving = False
        try:
            ready, _ = self._receive(time.monotonic() + START_SECONDS)
            self.python = str(ready.get("python"))
            if isolating and not (ready.get("isolated") and ready.get("filtered")):
                raise GuestLost(f"is not process 1 of its sandbox, or its system calls are not filtered: {ready}")
        except BaseException:
            self.stop()
            raise

    def ask(self, header: Mapping[str, Any], body: bytes, seconds: float) -> tuple[dict[str, Any], bytearray]:
        """Send one input; return the answer's header and body within ``seconds``. Raises :class:`GuestLost`."""
        deadline = time.monotonic() + seconds
        self.asked += 1
        self._in_job = True
        self._send(header, body, deadline)
        answer, output = self._receive(deadline)
        self._leaving = self._leaving or bool(answer.get("last"))
        return answer, output

    def prepare(self, prelude: str) -> None:
        """Let the guest execute a prelude once, for all later jobs. Raises :class:`GuestLost`."""
        if prelude and prelude not in self._prepared and len(prelude) <= MOST_PRELUDE and not self._in_job:
            self._send({"prepare": prelude}, b"", time.monotonic() + START_SECONDS)
            self._prepared.add(prelude)

    def done(self) -> None:
        """End the current job, so that nothing of it is left for the next one.

        Raises :class:`GuestLost`, also where the job left counters from which the next one could learn of it.
        """
        if self._leaving:
            raise GuestLost("took its last job")
        if self._in_job:
            self._send({"done": True}, b"", time.monotonic() + START_SECONDS)
            self._in_job = False

    def _send(self, header: Mapping[str, Any], body: bytes, deadline: float) -> None:
        text = json.dumps(header).encode()
        try:
            self.link.write(HEAD.pack(len(text), len(body)) + text + body, deadline)
        except OSError as error:
            raise GuestLost(f"did not take a program: {error}{self._last_words()}") from None

    def interrupt(self) -> None:
        """Make a waiting :meth:`ask` fail with :class:`GuestLost`; callable from any thread."""
        self.link.interrupt()

    def stop(self) -> None:
        """End the guest and everything in it, and wait until it is gone."""
        self.link.end()

    def _receive(self, deadline: float) -> tuple[dict[str, Any], bytearray]:
        sizes = HEAD.unpack(self._read(HEAD.size, deadline))
        text, body = self._read(sizes[0], deadline), self._read(sizes[1], deadline)
        try:
            header = json.loads(text)
        except ValueError:
            raise GuestLost(f"sent a header that is not JSON: {bytes(text[:80])!r}") from None
        return header, body

    def _read(self, size: int, deadline: float) -> bytearray:
        data = bytearray(size)
        view, have = memoryview(data), 0
        while have < size:
            try:
                got = self.link.read_into(view[have:], deadline)
            except TimeoutError:
                raise GuestLost("stayed silent past its deadline" + self._last_words()) from None
            except OSError as error:
                raise GuestLost(f"broke its connection: {error}" + self._last_words()) from None
            if not got:
                raise GuestLost("ended without an answer" + self._last_words())
            have += got
        return data

    def _last_words(self) -> str:
        words = self.link.words().strip()
        return f": {words[-WORDS:]}" if words else ""
