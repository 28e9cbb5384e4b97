"""Programs in a real sandbox: the drill on every executor that isolates, then what calls and outputs come back as."""

from __future__ import annotations

import re
import time

import pytest
from helpers.programs import TIGHT, run

from archer.sandbox import Sandbox
from archer.sandbox.base import Call, Input, ProgramJob, Script, Stdin, in_order
from archer.sandbox.limits import default_limits
from archer.tools.attacks.attack import AttackReport, run_attacks
from archer.tools.attacks.corpus import read_attacks, read_honest

pytestmark = pytest.mark.sandbox


# ---- the corpus


@pytest.fixture(scope="module")
def report(isolating: Sandbox) -> AttackReport:
    """Every attack and every honest program, once."""
    return run_attacks(isolating)


def test_all_attacks_and_honest_programs_ran(report: AttackReport) -> None:
    assert [row.attacks for row in report.rows] == [len(one.attacks) for one in read_attacks()]
    assert report.honest == len(read_honest())


def test_no_attack_scores(report: AttackReport) -> None:
    assert [name for row in report.rows for name in row.rewarded] == []


def test_no_attack_has_an_effect(report: AttackReport) -> None:
    assert [effect for row in report.rows for effect in row.effects] == []
    assert report.host == []


def test_attacks_end_as_expected_or_out_of_time_on_a_busy_machine(report: AttackReport) -> None:
    ends = [one for row in report.rows for one in row.unexpected]
    assert [one for one in ends if not re.search(r": (cpu|wall)_timeout, expected ", one)] == []


def test_honest_programs_are_right(report: AttackReport) -> None:
    assert report.rejected == []
    assert report.ok


# ---- after a program


@pytest.mark.parametrize(
    "leave",
    [
        "open('state', 'w').write('x')",
        "open(b'\\xff\\n', 'w').write('x')",
        "import os\nos.makedirs('a/b/c')",
        "import os\nos.chmod('/tmp', 0)",
        "open('/dev/shm/state', 'w').write('x')",
        "import os\nfor i in range(400): os.symlink('/', str(i))",
        "import ctypes\nprint(ctypes.CDLL(None).shmget(7, 4096, 0o1666))",
    ],
)
def test_nothing_is_left_for_the_next_program(sandbox, leave: str) -> None:
    look = (
        "import os\nprint(os.listdir('/tmp'), os.listdir('/dev/shm'), len(open('/proc/sysvipc/shm').readlines()),"
        "sum(p.isdigit() for p in os.listdir('/proc')))"  # the server, the watcher and the program itself
    )
    once = in_order(Stdin(""))
    outcomes = dict(sandbox.execute([ProgramJob(leave, once, TIGHT)] * 4 + [ProgramJob(look, once, TIGHT)] * 4))
    assert [outcomes[index].runs[0].status for index in range(8)] == ["ok"] * 8, outcomes
    assert {outcomes[index].runs[0].stdout for index in range(4, 8)} == {"[] [] 1 3\n"}


def test_a_program_ends_soon_after_its_limit(sandbox) -> None:
    run(sandbox, "print(1)")
    started = time.monotonic()
    assert run(sandbox, "import os\nos.fork(); os.fork()\nwhile True: pass").status in ("cpu_timeout", "wall_timeout")
    assert time.monotonic() - started < 2 * TIGHT.wall_seconds + 1  # twice where no core was free


# ---- calls


@pytest.mark.parametrize(
    ("program", "given", "value"),
    [
        ("def f(a): return {'t': (1, True), 3: a}", Call("f", ([1, "é"],)), {"t": (1, True), 3: [1, "é"]}),
        ("def f(): return {1, 2}, frozenset([3]), b'x', 1j, None", Call("f", ()), ({1, 2}, frozenset([3]), b"x", 1j, None)),
        ("class E(int):\n    def __eq__(s, o): return True\ndef f(): return [E(4)]", Call("f", ()), [4]),
        ("class E(str):\n    def __str__(s): return 'no'\ndef f(): return E('x')", Call("f", ()), "x"),
        ("class E(list):\n    def __iter__(s): return iter([9])\ndef f(): return E([1])", Call("f", ()), [1]),
        ("class E(dict):\n    def items(s): return []\ndef f(): return E(a=1)", Call("f", ()), {"a": 1}),
        ("from collections import *\ndef f(): return namedtuple('P', 'x y')(1, 2)", Call("f", ()), (1, 2)),
        ("import enum\nclass E(enum.IntEnum): A = 5\ndef f(): return E.A", Call("f", ()), 5),
        ("class Solution:\n    def f(self, a): return a + 1", Call("Solution.f", (4,)), 5),
        ("class Solution:\n    def f(self, a): return a + 1", Call("f", (4,)), 5),
        ("class Solution:\n    @staticmethod\n    def f(a): return a + 1", Call("f", (4,)), 5),
        ("if __name__ == '__main__': input()\ndef f(): print('x'); return 1", Call("f", ()), 1),
    ],
)  # fmt: skip
def test_a_call_gives_plain_values(sandbox, program: str, given: Input, value: object) -> None:
    found = run(sandbox, program, given).value
    assert found == value
    assert types(found) == types(value)


def types(value: object) -> list[type]:
    """The types of a value and of all that it holds."""
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    return [type(value)] + (
        [kind for one in inner for kind in types(one)] if isinstance(inner, list | tuple | set | frozenset) else []
    )


def test_a_prelude_grants_its_names(sandbox) -> None:
    prelude = "from typing import *\nfrom math import *"
    found = run(sandbox, "def f(x: List[int]): return inf", Call("f", (4,)), prelude=prelude)
    assert found.value == float("inf")


@pytest.mark.parametrize(
    ("program", "status", "detail"),
    [
        ("class E:\n    def __eq__(s, o): return True\ndef f(): return [E()]", "error", "TypeError: the result holds a E,"),
        ("def f(): return range(3)", "error", "TypeError: the result holds a range,"),
        ("def f():\n    x = []\n    x.append(x)\n    return x", "error", "RecursionError"),
        ("def f():\n    x = []\n    for _ in range(5000): x = [x]\n    return x", "error", ""),
        ("def f(): return 10**10000", "error", "the result cannot be read: "),
        ("def g(): return 1", "error", "NameError: the program does not define f"),
        ("def f(a): return 1", "error", "TypeError: f() missing 1 required"),
        ("import sys\nsys.exit(0)", "error", "the program ended before it returned a value"),
        ("import os\ndef f(): os._exit(0)", "error", "the program ended before it returned a value"),
        ("def f(): raise ValueError('bad')", "error", "ValueError: bad"),
        ("def f(): return 'x' * 2**21", "output", "more output than the limit"),
        ("def f():\n    x = []\n    while True: x.append(bytes(2**20))", "memory", ""),
    ],
)  # fmt: skip
def test_a_call_that_gives_no_value(sandbox, program: str, status: str, detail: str) -> None:
    result = run(sandbox, program, Call("f", ()))
    assert (result.status, result.value) == (status, None), result
    assert result.detail.startswith(detail)


SEARCH = """
import gc, os, sys
def f(x):
    seen = [repr(one) for one in gc.get_objects() if type(one) in (dict, list, tuple)]
    frame = sys._getframe()
    while frame: seen.append(repr(frame.f_locals)); frame = frame.f_back
    seen.append(open('/proc/self/cmdline').read() + repr(os.environ) + repr(sys.modules))
    return sum(''.join(['31', '337']) in text for text in seen)
"""


def test_frames_do_not_hold_what_is_expected(sandbox) -> None:
    found = []

    def script() -> Script:
        expected = 31337
        for _ in range(2):
            result = yield Call("f", (1,))
            found.append((result.value, result.value == expected))

    list(sandbox.execute([ProgramJob(SEARCH, script, default_limits())]))
    assert found == [(0, False), (0, False)]


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


def test_an_error_that_is_no_text_can_be_shown(sandbox) -> None:
    result = run(sandbox, "raise ValueError('\\ud800')")
    assert result.status == "error"
    assert result.detail.encode().startswith(b"ValueError: ")


def test_sets_iterate_alike_everywhere(sandbox) -> None:
    jobs = [ProgramJob("print(list({'a', 'b', 'c', 'd', 'e', 'f'}))", in_order(Stdin("")), TIGHT)] * 6
    assert len({outcome.runs[0].stdout for _, outcome in sandbox.execute(jobs)}) == 1


def test_the_kernel_s_own_limit_on_cpu_time_comes_late(sandbox) -> None:
    # It is counted by ticks: on a busy machine it ended programs that had used 5.6 of 6 s, as if they had failed.
    limit = run(sandbox, "import resource\nprint(*resource.getrlimit(resource.RLIMIT_CPU))", limits=default_limits())
    assert limit.stdout == "13 13\n"
