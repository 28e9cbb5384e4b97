"""Programs in a real sandbox: what honest ones may do, and what hostile ones may not."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import pytest
from programs import BENIGN, HARMLESS, HOSTILE, TIGHT, run

from archer.execution.base import Call, Job, Stdin
from archer.execution.bubblewrap import Bubblewrap
from archer.execution.limits import default_limits


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Bubblewrap]:
    if shutil.which("bwrap") is None and not os.environ.get("CI"):
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    with Bubblewrap(2) as executor:
        yield executor


@pytest.mark.parametrize("style", BENIGN)
def test_honest_program(sandbox, style) -> None:
    result = run(sandbox, BENIGN[style], "3 4\n5\n", default_limits())
    assert (result.status, result.stdout, result.detail) == (
        "ok",
        "12\n" if result.stdout.endswith("\n") else "12",
        "",
    )


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_program(sandbox, attack) -> None:
    program, expected = HOSTILE[attack]
    started = time.monotonic()
    result = run(sandbox, program)
    assert result.status in (expected if isinstance(expected, tuple) else (expected,)), result
    assert time.monotonic() - started < TIGHT.wall_seconds + 2
    assert run(sandbox, "print(input())", "hello", default_limits()).stdout == "hello\n"


@pytest.mark.parametrize("attack", HARMLESS)
def test_attack_without_effect(sandbox, attack) -> None:
    result = run(sandbox, HARMLESS[attack])
    assert (result.status, result.stdout) == ("ok", "done\n"), result
    assert run(sandbox, "print(input())", "hello", default_limits()).stdout == "hello\n"


@pytest.mark.parametrize(
    "leave",
    [
        "open('state', 'w').write('x')",
        "import os\nos.makedirs('a/b/c')",
        "import os\nos.chmod('/tmp', 0)",
        "open('/dev/shm/state', 'w').write('x')",
        "import os\nfor i in range(400): os.symlink('/', str(i))",
        "import ctypes\nprint(ctypes.CDLL(None).shmget(7, 4096, 0o1666))",
    ],
)
def test_nothing_is_left_for_the_next_program(sandbox, leave) -> None:
    look = (
        "import os\nprint(os.listdir('/tmp'), os.listdir('/dev/shm'), len(open('/proc/sysvipc/shm').readlines()),"
        "[p for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid())])"
    )
    jobs = [Job(leave, (Stdin(""),), TIGHT)] * 4 + [Job(look, (Stdin(""),), TIGHT)] * 4
    outcomes = dict(sandbox.execute(jobs))
    assert [outcomes[index].runs[0].status for index in range(8)] == ["ok"] * 8, outcomes
    assert {outcomes[index].runs[0].stdout for index in range(4, 8)} == {"[] [] 1 []\n"}


# ---- calls


def test_call_gives_plain_values(sandbox) -> None:
    program = "def f(a):\n    return {'t': (1, True), 'n': None, 'x': 1.5, 3: a}"
    assert run(sandbox, program, Call("f", ([1, "é"],))).value == {
        "t": [1, True],
        "n": None,
        "x": 1.5,
        "3": [1, "é"],
    }
    assert run(sandbox, "class Solution:\n    def f(self, a): return a + 1", Call("Solution.f", (4,))).value == 5
    assert run(sandbox, "class Solution:\n    def f(self, a): return a + 1", Call("f", (4,))).value == 5
    assert run(
        sandbox,
        "def f(x: List[int]): return inf",
        Call("f", (4,)),
        prelude="from typing import *\nfrom math import *",
    ).value == float("inf")
    assert run(sandbox, "if __name__ == '__main__': input()\ndef f(): print('x'); return 1", Call("f", ())).value == 1


@pytest.mark.parametrize(
    ("program", "status", "detail"),
    [
        (
            "class E(int):\n    def __eq__(s, o): return True\ndef f(): return E()",
            "error",
            "TypeError: the result holds a E,",
        ),
        (
            "class E:\n    def __eq__(s, o): return True\ndef f(): return [E()]",
            "error",
            "TypeError: the result holds a E,",
        ),
        ("def f(): return {1, 2}", "error", "TypeError: the result holds a set,"),
        ("def f():\n    x = []\n    x.append(x)\n    return x", "error", "RecursionError"),
        ("def f():\n    x = []\n    for _ in range(5000): x = [x]\n    return x", "error", ""),
        ("def f(): return 10**10000", "error", "the result cannot be read: "),
        ("def g(): return 1", "error", "NameError: the program does not define f"),
        ("def f(a): return 1", "error", "TypeError: f() missing 1 required"),
        ("import sys\nsys.exit(0)", "error", "the program ended before it returned a value"),
        ("import os\ndef f(): os._exit(0)", "error", "the program ended before it returned a value"),
        ("def f(): raise ValueError('bad')", "error", "ValueError: bad"),
        ("def f(): return 'x' * 2**21", "output", "more output than the limit"),
        ("def f():\n    x = []\n    while True: x.append(bytes(2**20))", "memory", "MemoryError"),
    ],
)
def test_call_that_gives_no_value(sandbox, program, status, detail) -> None:
    result = run(sandbox, program, Call("f", ()))
    assert (result.status, result.value) == (status, None), result
    assert result.detail.startswith(detail)


def test_frames_do_not_hold_what_is_expected(sandbox) -> None:
    program = (
        "import gc, os, sys\n"
        "def f(x):\n"
        "    seen = [repr(o) for o in gc.get_objects() if type(o) in (dict, list, tuple)]\n"
        "    frame = sys._getframe()\n"
        "    while frame: seen.append(repr(frame.f_locals)); frame = frame.f_back\n"
        "    seen.append(open('/proc/self/cmdline').read() + repr(os.environ) + repr(os.listdir('/guest')))\n"
        "    return sum(''.join(['31', '337']) in text for text in seen)\n"
    )
    values = []
    job = Job(program, (Call("f", (1,)),) * 2, default_limits(), lambda index, result: values.append(31337) is None)
    [(_, outcome)] = sandbox.execute([job])
    assert [result.value for result in outcome.runs] == [0, 0], outcome


# ---- output, decoding, exit codes


def test_eight_megabytes_come_back_whole(sandbox) -> None:
    result = run(sandbox, "print('ab' * (4 * 2**20 - 1) + 'c')", limits=default_limits())
    assert (result.status, len(result.stdout), result.stdout[-4:]) == ("ok", 8 * 2**20, "abc\n")
    assert run(sandbox, "print('x' * 8 * 2**20)", limits=default_limits()).status == "output"


def test_large_input(sandbox) -> None:
    result = run(sandbox, "import sys\nprint(len(sys.stdin.read()))", "x" * 5_000_000, default_limits())
    assert result.stdout == "5000000\n"


def test_invalid_utf8_is_replaced_and_traceback_told(sandbox) -> None:
    assert run(sandbox, "import os\nos.write(1, b'a\\xffb')").stdout == "a\ufffdb"
    result = run(sandbox, "def g():\n    return 1 / 0\ng()")
    assert (result.exit_code, result.detail) == (1, "ZeroDivisionError: division by zero")
    assert 'File "main.py", line 2, in g\n    return 1 / 0' in result.stderr
    assert "program.py" not in result.stderr
    assert run(sandbox, "import os\nos.kill(os.getpid(), 9)").exit_code == -9


def test_sets_iterate_alike_everywhere(sandbox) -> None:
    jobs = [Job("print(list({'a', 'b', 'c', 'd', 'e', 'f'}))", (Stdin(""),), TIGHT)] * 6
    assert len({outcome.runs[0].stdout for _, outcome in sandbox.execute(jobs)}) == 1
