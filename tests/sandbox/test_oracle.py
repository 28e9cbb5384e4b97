"""What one program can tell the next one in its sandbox: numbers that the kernel gives out in turn."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import pytest
from helpers.programs import run

from archer.rewards.code import CodeReward
from archer.sandbox import Sandbox, open_executor
from archer.sandbox.base import Executor, ProgramJob, Script, Stdin
from archer.sandbox.limits import default_limits
from archer.types import Problem

pytestmark = pytest.mark.sandbox

ANSWERS = ("NO", "YES", "NO", "NO", "YES", "NO")  # a program that cannot know them solves the problem once in 64 times
SAMPLES = 16

# How to read a number of the sandbox, and how to raise it by one.
FILE = """
def number():
    file = os.open("/tmp", os.O_TMPFILE | os.O_RDWR)
    try: return os.fstat(file).st_ino
    finally: os.close(file)
skip = number
"""
SHARED_FILE = FILE.replace("/tmp", "/dev/shm")
PROCESS = """
import ctypes
libc = ctypes.CDLL(None)
def number():
    if not (pid := os.fork()): os._exit(0)
    os.waitpid(pid, 0)
    return pid
def skip(): libc.syscall({"x86_64": 56, "aarch64": 220}[os.uname().machine], 0x1F11, 0, 1, 0, 0)
"""
# Where a folder's entry lies counts the entries that the folder ever had; a name for standard input is one, too.
ENTRY = """
import ctypes
libc = ctypes.CDLL(None)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
try: os.link("/proc/self/fd/0", "/tmp/a", follow_symlinks=True)
except OSError: open("/tmp/a", "w").close()
turn = ["/tmp/a", "/tmp/b"]
def number():
    skip()
    folder, found = ctypes.c_void_p(libc.opendir(b"/tmp")), []
    while libc.readdir(folder): found.append(libc.telldir(folder))
    libc.closedir(folder)
    return max(place for place in found if place < 2**31 - 1)
def skip():
    os.rename(*turn)
    turn.reverse()
"""
# Keeps the answers found so far in a number: which part of it is passed says what they are, and whether a guess is open.
# Testing goes on only after a right answer, so the next test, or the next sample, tells what became of the guess.
ORACLE = """
import os
{register}
place, unit, states = int(input()), 128, 256
state = number() // unit % states
known, guessed = bin(max(1, state // 2))[3:], state % 2
if guessed: known += "0" if place == 1 else "1"
guessed = place > len(known)
print("NO" if place <= len(known) and known[place - 1] == "0" else "YES")
state = 2 * int("1" + known, 2) + guessed
while (now := number()) // unit % states != state or now % unit > unit // 2:
    for _ in range(16): skip()
if os.path.exists("/tmp/a"): os.unlink("/tmp/a")
if os.path.exists("/tmp/b"): os.unlink("/tmp/b")
# sample {sample}
"""


def solved(executor: Executor, register: str) -> int:
    """How many samples of one group solve the problem, one after another in one sandbox."""
    tests = [{"stdin": f"{place + 1}\n", "expected": f"{answer}\n"} for place, answer in enumerate(ANSWERS)]
    problem, reward, count = Problem("oracle", "drill", "", "code", {"tests": tests}), CodeReward(), 0
    for sample in range(SAMPLES):
        job = reward.job(problem, f"```python\n{ORACLE.format(register=register, sample=sample)}```")
        assert isinstance(job, ProgramJob)
        [(_, outcome)] = executor.execute([job])
        count += reward.judge(problem, outcome).passed
    return count


@pytest.mark.parametrize(
    "register", [FILE, SHARED_FILE, PROCESS, ENTRY], ids=["file", "shared-file", "process", "entry"]
)
def test_numbers_of_the_sandbox_are_no_oracle(isolating: Sandbox, register: str) -> None:
    executor = open_executor(Sandbox(isolating.executor, 1, isolating.docker_hosts))
    try:
        assert solved(executor, register) == 0
    finally:
        executor.close()


@dataclass(frozen=True)
class Stopped:
    """A script of at most six inputs that stops after ``inputs`` of them."""

    inputs: int
    most_inputs: int = 6

    def __call__(self) -> Script:
        for _ in range(self.inputs):
            yield Stdin("")


THREADS = "import threading\nfor _ in range({}):\n    thread = threading.Thread(target=int)\n    thread.start(); thread.join()"
PROCESS_AND_FILE = "import os\nprint(os.getpid(), os.fstat(0).st_ino)"
FILES = (
    "import os\nfile = os.open('/dev/shm', os.O_TMPFILE | os.O_RDWR)\nprint(os.fstat(0).st_ino, os.fstat(file).st_ino)"
)


def numbers(executor: Executor, program: str) -> list[int]:
    return [int(word) for word in run(executor, program, limits=default_limits()).stdout.split()]


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_numbers_do_not_tell_how_far_another_program_got(isolating: Sandbox, known: bool) -> None:
    steps = set()
    for inputs, threads in ((1, 0), (2, 3), (6, 1)):
        executor = open_executor(Sandbox(isolating.executor, 1, isolating.docker_hosts))
        try:
            before = numbers(executor, PROCESS_AND_FILE)
            script = Stopped(inputs, 6 if known else 0)
            list(executor.execute([ProgramJob(THREADS.format(threads), script, default_limits())]))
            after = numbers(executor, PROCESS_AND_FILE)
            steps.add(tuple(now - then for then, now in zip(before, after, strict=True)))
        finally:
            executor.close()
    assert len(steps) == 1


def test_a_program_that_took_many_numbers_was_the_last_of_its_sandbox(isolating: Sandbox) -> None:
    executor = open_executor(Sandbox(isolating.executor, 1, isolating.docker_hosts))
    try:
        first = numbers(executor, FILES)
        for greedy in (THREADS.format(40), "open('file', 'w').close()", "import os\nos.open('/dev/shm', 0x410002)"):
            assert run(executor, greedy, limits=default_limits()).status == "ok"
            assert numbers(executor, FILES) == first
    finally:
        executor.close()


# Prints what keeps a time at which it was looked at: not what is made anew at each look, nor the program's own.
TIMES = """
import os, json, time
def looked():
    times = {}
    for root in ("/proc", "/proc/1", "/dev"):
        for place, folders, files in os.walk(root):
            folders[:] = [name for name in folders if not (place == "/proc" and name.isdigit())]
            for name in (*folders, *files):
                path = os.path.join(place, name)
                try:
                    found = os.lstat(path)
                    times[path] = max(found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
                except OSError: pass
    return times
first = looked()
time.sleep(0.1)
print(json.dumps([[path, seen] for path, seen in looked().items() if first.get(path) == seen]))
"""


def test_a_look_at_a_file_leaves_no_time(isolating: Sandbox) -> None:
    executor = open_executor(Sandbox(isolating.executor, 1, isolating.docker_hosts))
    try:
        run(executor, "print(1)", limits=default_limits())
        opened = time.time_ns()
        time.sleep(0.5)
        found = json.loads(run(executor, TIMES, limits=default_limits()).stdout)
    finally:
        executor.close()
    assert len(found) > 100
    assert [path for path, seen in found if seen > opened + 4 * 10**8 and not path.startswith("/dev/shm")] == []
