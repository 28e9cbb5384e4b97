"""A way to run one program, and the few that may also run without isolation; ``sandbox/attacks/`` has the others."""

from __future__ import annotations

from archer.sandbox.base import Executor, Input, Limits, ProgramJob, ProgramRun, Stdin, in_order

TIGHT = Limits(cpu_seconds=0.3, wall_seconds=0.8, memory_bytes=256 * 2**20, output_bytes=2**20)


def run(
    executor: Executor,
    program: str,
    given: Input | str = "",
    limits: Limits = TIGHT,
    prelude: str = "",
) -> ProgramRun:
    given = Stdin(given) if isinstance(given, str) else given
    [(_, outcome)] = executor.execute([ProgramJob(program, in_order(given), limits, prelude)])
    return outcome.runs[0]


# Each reads "3 4\\n5\\n" and prints 12.
BENIGN = {
    "input": "a, b = map(int, input().split())\nprint(a + b + int(input()))",
    "open0": "print(sum(map(int, open(0).read().split())))",
    "os_exit": "import os, sys\nprint(12)\nsys.stdout.flush()\nos._exit(0)",
    "atexit": "import atexit, io, os, sys\nsys.stdout = io.StringIO()\n"
    "atexit.register(lambda: os.write(1, sys.stdout.getvalue().encode()))\nprint(12)",
    "thread": "import sys, threading\nthreading.stack_size(2**26)\nsys.setrecursionlimit(10**6)\n"
    "def deep(n): return 12 if n == 0 else deep(n - 1)\n"
    "threading.Thread(target=lambda: print(deep(30000))).start()",
    "file": "open('x.txt', 'w').write('12')\nprint(open('x.txt').read())",
}

# Each goes over one limit, does nothing else, and ends so.
HOSTILE = {
    "loop": ("while True: pass", "cpu_timeout"),
    "sleep": ("import time\ntime.sleep(60)", "wall_timeout"),
    "stop_itself": ("import os\nos.kill(os.getpid(), 19)", "wall_timeout"),
    "memory": ("x = bytearray(10**10)", "memory"),
    "flood": ("while True: print('x' * 1000)", "output"),
    "exit_code": ("import sys\nsys.exit(3)", "error"),
    "segfault": ("import ctypes\nctypes.string_at(1)", "error"),
    "syntax": ("def", "error"),
}
