"""The guest's looks at what a program holds: what they count, what they survive, how long they take."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "sandbox"
sys.path.insert(0, str(FOLDER))

import watch  # noqa: E402 (the guest is no package: it runs alone in its sandbox)

LIMITS = {"cpu_seconds": 60.0, "wall_seconds": 60.0, "memory_bytes": 256 * 2**20, "processes": 16}
# Two processes, since a program may be more than one; each tells that it is ready.
READY = "\nimport os, time\nos.fork()\nos.write(1, b'.')\ntime.sleep(60)\n"


@contextmanager
def program(text: str, folder: Path) -> Iterator[int]:
    """Run a program in a session of its own, as the guest does; the context is its process once both are ready."""
    with subprocess.Popen(
        [sys.executable, "-c", text + READY], stdout=subprocess.PIPE, cwd=folder, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.read(1) + process.stdout.read(1)
            assert ready == b"..", ready
            yield process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)


def look(pid: int) -> tuple[str, str] | None:
    found: tuple[str, str] | None = watch.over_limit(pid, LIMITS, [], 0.0)
    return found


MAPPED = """
import mmap, os
file = os.open({name!r}, os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 4096)
kept = mmap.mmap(file, 4096)
"""


@pytest.mark.parametrize(
    "name", [b"\xff", b"a\nb", b"a b (deleted)", b") R 1 1", b"x" * 255, b"7f00-7fff rw-s 0 0:0 1"], ids=repr
)
def test_names_of_mapped_files_do_no_harm(tmp_path: Path, name: bytes) -> None:
    with program(MAPPED.format(name=name), tmp_path) as pid:
        assert look(pid) is None


def test_names_of_processes_do_no_harm(tmp_path: Path) -> None:
    rename = "import ctypes\nassert ctypes.CDLL(None).prctl(15, b') R 1\\n\\xff VmRSS:') == 0\n"
    with program(rename, tmp_path) as pid:
        assert look(pid) is None


# A file 4,000 letters deep, mapped 60,000 times: its name is in each line of the list of mappings.
DEEP = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
for _ in range(15):
    os.mkdir("x" * 255)
    os.chdir("x" * 255)
file = os.open("x", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 4096)
for number in range(60_000): assert libc.mmap(0x100000000000 + 8192 * number, 4096, 1, 0x12, file, 0) > 0
"""


def test_a_look_takes_no_longer_for_many_mappings_with_long_names(tmp_path: Path) -> None:
    with program(DEEP, tmp_path) as pid:
        seconds = []
        for _ in range(5):
            begin = time.process_time()
            assert look(pid) == ("memory", "more mappings than the limit")
            seconds.append(time.process_time() - begin)
    assert min(seconds) < 0.1


SOCKETS = """
import socket
kept = [socket.socketpair() for _ in range({})]
"""
PIPES = """
import os
kept = [os.pipe() for _ in range({})]
"""


@pytest.mark.parametrize(("kind", "few", "many"), [(SOCKETS, 20, 200), (PIPES, 100, 1200)], ids=["sockets", "pipes"])
def test_unread_data_is_charged_before_it_is_there(tmp_path: Path, kind: str, few: int, many: int) -> None:
    with program(kind.format(few), tmp_path) as pid:
        assert look(pid) is None
    with program("import resource\nresource.setrlimit(7, (4000, 4000))" + kind.format(many), tmp_path) as pid:
        assert look(pid) == ("memory", "more memory than the limit")
