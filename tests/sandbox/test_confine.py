"""The guest's filter of system calls: the profile, its translation, and what the kernel makes of it."""

from __future__ import annotations

import errno
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.programs import run

from archer.sandbox.limits import default_limits
from archer.sandbox.pool import Pool

FOLDER = Path(__file__).parents[2] / "sandbox"
sys.path.insert(0, str(FOLDER))

import confine  # noqa: E402 (the guest is no package: it runs alone in its sandbox)

PROFILE = json.loads((FOLDER / "seccomp.json").read_text())
TABLES = json.loads((FOLDER / "syscalls.json").read_text())
ALLOWED, REFUSED, KILLED = 0x7FFF0000, 0x00050001, 0x80000000


def verdict(
    steps: list[tuple[int, int, int, int]], number: int, arguments: tuple[int, ...] = (), audit: int = 0
) -> int:
    """Run a filter as the kernel does, on one call."""
    audit = audit or TABLES[confine.os.uname().machine]["audit"]
    data = struct.pack("=IIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    at = value = 0
    while True:
        code, yes, no, constant = steps[at]
        at += 1
        match code:
            case confine.LOAD:
                value = struct.unpack_from("=I", data, constant)[0]
            case confine.AND:
                value &= constant
            case confine.JUMP_EQUAL:
                at += yes if value == constant else no
            case confine.JUMP_LEAST:
                at += yes if value >= constant else no
            case confine.RETURN:
                return constant


def filtered(profile: dict[str, object]) -> list[tuple[int, int, int, int]]:
    return list(confine.STEP.iter_unpack(confine.build(profile, TABLES)))


def number(name: str) -> int:
    return TABLES[confine.os.uname().machine]["numbers"][name]


def test_what_the_shipped_profile_lets_through() -> None:
    steps = filtered(PROFILE)
    names = {name for rule in PROFILE["syscalls"] for name in rule["names"]}
    plain = {name for rule in PROFILE["syscalls"] for name in rule["names"] if "args" not in rule} - {"clone3"}
    for name in plain & TABLES[confine.os.uname().machine]["numbers"].keys():
        assert verdict(steps, number(name)) == ALLOWED, name
    known = {number(name) for name in names & TABLES[confine.os.uname().machine]["numbers"].keys()}
    assert {verdict(steps, other) for other in range(600) if other not in known} == {REFUSED}
    assert len(steps) < 4096  # the kernel takes no more


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("socketpair", (1,), ALLOWED),
        ("socketpair", (2,), REFUSED),
        ("prlimit64", (0,), ALLOWED),
        ("prlimit64", (1,), REFUSED),
        ("prctl", (1,), ALLOWED),
        ("prctl", (15,), ALLOWED),
        ("prctl", (16,), ALLOWED),
        ("prctl", (36,), ALLOWED),
        ("prctl", (4, 1), ALLOWED),
        ("prctl", (4, 0), REFUSED),
        ("rt_sigaction", (2,), ALLOWED),
        ("rt_sigaction", (17,), REFUSED),  # SIGCHLD
        ("prctl", (22,), REFUSED),  # PR_SET_SECCOMP
        ("fcntl", (3, 1030), ALLOWED),
        ("fcntl", (3, 6), REFUSED),  # F_SETLK
        ("fcntl", (3, 1031), REFUSED),  # F_SETPIPE_SZ
        ("clone", (0x01200011,), ALLOWED),  # fork
        ("clone", (0x003D0F00,), ALLOWED),  # a thread
        ("clone", (0x10000011,), REFUSED),  # CLONE_NEWUSER
        ("clone", (0x00020011,), REFUSED),  # CLONE_NEWNS
        ("ioctl", (0, 0x5401), ALLOWED),
        ("ioctl", (0, 0x40086602), REFUSED),  # FS_IOC_SETFLAGS
        ("sched_setaffinity", (0,), ALLOWED),
        ("sched_setaffinity", (1,), REFUSED),
        ("clone3", (), 0x00050000 | errno.ENOSYS),
        ("clone", (0x003D0B00,), REFUSED),  # a thread with descriptors of its own
        ("clone", (0x0003D0F00 | 0x10000000,), REFUSED),  # and one in a user namespace
        ("close_range", (3, 9, 0), ALLOWED),
        ("close_range", (3, 9, 2), REFUSED),  # CLOSE_RANGE_UNSHARE
        ("mmap", (0, 4096, 3, 0x22), ALLOWED),  # MAP_PRIVATE | MAP_ANONYMOUS
        ("mmap", (0, 4096, 3, 0x01), ALLOWED),  # MAP_SHARED of a file
        ("mmap", (0, 4096, 3, 0x02), ALLOWED),
        ("mmap", (0, 4096, 3, 0x21), REFUSED),  # MAP_SHARED | MAP_ANONYMOUS
        ("mmap", (0, 4096, 3, 0x8023), REFUSED),  # MAP_SHARED_VALIDATE, populated
        ("getsockopt", (3, 1, 4), ALLOWED),  # SO_ERROR
        ("getsockopt", (3, 1, 57), REFUSED),  # SO_COOKIE
        ("getsockopt", (3, 1, 71), REFUSED),  # SO_NETNS_COOKIE
        ("statx", (3, 0, 0, 0x7FF), ALLOWED),
        ("statx", (3, 0, 0, 0x47FF), REFUSED),  # STATX_MNT_ID_UNIQUE
        ("preadv2", (3, 0, 1, 0, 0, 0), ALLOWED),
        ("preadv2", (3, 0, 1, 0, 0, 8), REFUSED),  # RWF_NOWAIT
        ("fadvise64", (3, 0, 0, 2), ALLOWED),
        ("fadvise64", (3, 0, 0, 4), REFUSED),  # POSIX_FADV_DONTNEED
    ],
)
def test_conditions_on_arguments(name: str, arguments: tuple[int, ...], expected: int) -> None:
    assert verdict(filtered(PROFILE), number(name), arguments) == expected


def test_calls_of_another_kind_end_the_process() -> None:
    steps = filtered(PROFILE)
    assert verdict(steps, number("read"), audit=0x40000003) == KILLED  # i386's numbers
    assert verdict(steps, 0x40000000 + number("read")) == KILLED  # x32's


def test_a_profile_that_cannot_be_translated_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_GT"}]}
    with pytest.raises(RuntimeError, match=r"seccomp.json: op 'SCMP_CMP_GT' is not one of"):
        confine.build({"defaultErrnoRet": 1, "syscalls": [rule]}, TABLES)
    with pytest.raises(RuntimeError, match=r"syscalls.json: no numbers for \w+; known: riscv"):
        confine.build(PROFILE, {"riscv": {}})


def test_both_tables_name_the_same_calls_as_the_profile() -> None:
    names = {name for rule in PROFILE["syscalls"] for name in rule["names"]}
    assert TABLES["x86_64"]["numbers"].keys() == names
    assert TABLES["aarch64"]["numbers"].keys() < names  # it has no calls that newer ones replace
    assert all(len(set(table["numbers"].values())) == len(table["numbers"]) for table in TABLES.values())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("os.memfd_create('x')", "PermissionError"),
        ("__import__('socket').socket()", "PermissionError"),
        ("os.unshare(0) if hasattr(os, 'unshare') else os.setuid(1)", "PermissionError"),
        ("os.setxattr('/tmp', 'user.x', b'1')", "PermissionError"),
        ("__import__('fcntl').lockf(0, 2)", "PermissionError"),
        ("__import__('fcntl').flock(0, 2)", "PermissionError"),
        ("__import__('mmap').mmap(-1, 4096)", "PermissionError"),
        ("__import__('select').epoll()", "PermissionError"),
        ("__import__('socket').socketpair()[0].setsockopt(1, 7, 2**20)", "PermissionError"),
        ("__import__('socket').socketpair()[0].sendmsg([b'x'])", "PermissionError"),
        ("open('/dev/ptmx')", "FileNotFoundError"),
    ],
)
def test_the_kernel_refuses(sandbox: Pool, call: str, said: str) -> None:
    assert run(sandbox, f"import os\n{call}").detail.startswith(said)


def test_threads_processes_and_loops_work(sandbox: Pool) -> None:
    program = (
        "import asyncio, multiprocessing, os, threading\n"
        "async def later(): await asyncio.sleep(0.01); return 3\n"
        "near, far = multiprocessing.Pipe()\n"
        "thread = threading.Thread(target=far.send, args=(4,)); thread.start(); thread.join()\n"
        "pid = os.fork()\nif pid == 0: os._exit(5)\n"
        "print(asyncio.run(later()), near.recv(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert run(sandbox, program, limits=default_limits()).stdout == "3 4 5\n"


def test_the_filter_is_on_before_the_server_is_ready() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(FOLDER)!r}); sys.argv = ['x']\nimport runner, os\n"
        "print(runner.put_on_filter())\n"
        "try: os.memfd_create('x')\nexcept PermissionError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\nrefused\n"
