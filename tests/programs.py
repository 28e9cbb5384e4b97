"""Small programs for the executors' tests, honest and hostile, and a way to run one."""

from __future__ import annotations

from archer.execution.base import Executor, Input, Job, Limits, Run, Stdin, in_order

TIGHT = Limits(cpu_seconds=0.3, wall_seconds=0.8, memory_bytes=256 * 2**20, output_bytes=2**20)


def run(
    executor: Executor,
    program: str,
    given: Input | str = "",
    limits: Limits = TIGHT,
    prelude: str = "",
) -> Run:
    given = Stdin(given) if isinstance(given, str) else given
    [(_, outcome)] = executor.execute([Job(program, in_order(given), limits, prelude)])
    return outcome.runs[0]


# Each reads "3 4\\n5\\n" and prints 12.
BENIGN = {
    "input": "a, b = map(int, input().split())\nprint(a + b + int(input()))",
    "iterate": "import sys\nprint(sum(int(w) for line in sys.stdin for w in line.split()))",
    "read": "import sys\nprint(sum(map(int, sys.stdin.read().split())))",
    "readlines": "import sys\nprint(sum(int(w) for l in sys.stdin.readlines() for w in l.split()))",
    "readline": "import sys\ninput = sys.stdin.readline\nprint(sum(map(int, (input() + input()).split())))",
    "buffer": "import sys\nr = sys.stdin.buffer.readline\nprint(sum(map(int, (r() + r()).split())))",
    "open0": "print(sum(map(int, open(0).read().split())))",
    "dev_stdin": "print(sum(map(int, open('/dev/stdin').read().split())))",
    "os_read": "import os\nprint(sum(map(int, os.read(0, 10**6).split())))",
    "fstat": "import os, io\nb = io.BytesIO(os.read(0, os.fstat(0).st_size))\nprint(sum(map(int, b.read().split())))",
    "mmap": "import mmap\nprint(sum(map(int, mmap.mmap(0, 0, access=mmap.ACCESS_READ)[:].split())))",
    "fileinput": "import fileinput\nprint(sum(int(w) for l in fileinput.input() for w in l.split()))",
    "eof_loop": "s = 0\ntry:\n    while True:\n        s += sum(map(int, input().split()))\nexcept EOFError:\n    print(s)",
    "buffer_write": "import sys\nsys.stdin.read()\nsys.stdout.buffer.write(b'12\\n')",
    "os_write": "import os\nos.write(1, b'12\\n')",
    "os_exit": "import os, sys\nprint(12)\nsys.stdout.flush()\nos._exit(0)",
    "sys_exit": "import sys\nprint(12)\nsys.exit(0)",
    "exit": "print(12)\nexit()",
    "atexit": "import atexit, io, os, sys\nsys.stdout = io.StringIO()\n"
    "atexit.register(lambda: os.write(1, sys.stdout.getvalue().encode()))\nprint(12)",
    "unflushed_file": "out = open(1, 'w', closefd=False)\nout.write('12\\n')",
    "close_stdout": "import sys\nprint(12)\nsys.stdout.close()",
    "guard_first": "def main():\n    if __name__ == '__main__':\n        global x\n        x = 12\nmain()\nprint(x)",
    "thread": "import sys, threading\nthreading.stack_size(2**26)\nsys.setrecursionlimit(10**6)\n"
    "def deep(n): return 12 if n == 0 else deep(n - 1)\n"
    "threading.Thread(target=lambda: print(deep(30000))).start()",
    "recursion": "def deep(n): return 12 if n == 0 else deep(n - 1)\nprint(deep(20000))",
    "dataclass": "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 12\nprint(P().x)",
    "pickle": "import pickle\nclass P: x = 12\nprint(pickle.loads(pickle.dumps(P())).x)",
    "subprocess_pool": "from concurrent.futures import ThreadPoolExecutor as T\n"
    "pool = T(4)\nprint(sum(pool.map(int, '3 4 5'.split())))",
    "multiprocessing": "import os\nr, w = os.pipe()\nif os.fork() == 0:\n    os.write(w, b'12'); os._exit(0)\n"
    "os.wait()\nprint(os.read(r, 9).decode())",
    "file": "open('x.txt', 'w').write('12')\nprint(open('x.txt').read())",
    "long_number": "print(len(str(10**5000)) - 4989)",
    "caught": "try:\n    x = bytearray(10**12)\nexcept MemoryError:\n    print(12)",
    "import_star": "from collections import *\nfrom heapq import *\nimport numbers, bisect\nprint(12)",
    "future": "from __future__ import annotations\nprint(12)",
}

# Each with how it ends.
HOSTILE = {
    "loop": ("while True: pass", "cpu_timeout"),
    "ignored_signals": (
        (
            "import signal\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n"
            "    except (OSError, ValueError): pass\nwhile True: pass"
        ),
        "cpu_timeout",
    ),
    "c_loop": ("sum(range(10**12))", "cpu_timeout"),
    "forked_loops": ("import os\nos.fork(); os.fork()\nwhile True: pass", "cpu_timeout"),
    "sleep": ("import time\ntime.sleep(60)", "wall_timeout"),
    "stop_itself": ("import os\nos.kill(os.getpid(), 19)", "wall_timeout"),
    "wait_for_input": ("import os\nr, w = os.pipe()\nos.read(r, 1)", "wall_timeout"),
    "thread_forever": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
        "wall_timeout",
    ),
    "memory": ("x = bytearray(10**10)", "memory"),
    "memory_list": ("x = [0] * 2**20\nwhile True: x += x", ("memory", "cpu_timeout")),
    "memory_shared": (
        (
            "import mmap, os, time\nfor _ in range(4):\n    os.fork()\nm = mmap.mmap(-1, 100 * 2**20)\n"
            "m.write(b'x' * len(m))\ntime.sleep(9)"
        ),
        "memory",
    ),
    "fork_bomb": (
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        ("violation", "cpu_timeout"),
    ),
    "double_fork": (
        (
            "import os, time\nfor _ in range(30):\n    if os.fork() == 0:\n        os.setsid()\n"
            "        if os.fork() == 0: time.sleep(60)\n        os._exit(0)\ntime.sleep(60)"
        ),
        ("error", "violation"),
    ),
    "flood": ("while True: print('x' * 1000)", "output"),
    "flood_one_line": ("import os\nwhile True: os.write(1, b'x' * 65536)", "output"),
    "flood_stderr": ("import os\nwhile True: os.write(2, b'x' * 65536)", "output"),
    "fill_disk": ("for i in range(99): open(str(i), 'wb').write(b'x' * 2**23)", "error"),
    "big_file": ("open('x', 'wb').write(b'x' * 2**25)", "error"),
    "root_file": ("open('/x', 'w')", "error"),
    "dev_file": ("open('/dev/x', 'w')", "error"),
    "library_file": ("import os\nopen(os.__file__, 'a')", "error"),
    "descriptors": ("import os\nwhile True: os.dup(0)", "error"),
    "exit_code": ("import sys\nsys.exit(3)", "error"),
    "abort": ("import os\nos.abort()", "error"),
    "segfault": ("import ctypes\nctypes.string_at(1)", "error"),
    "syntax": ("def", "error"),
    "null_byte": ("x = '\0'", "error"),
    "surrogate": ("x = '\ud800'", "error"),
    "network": ("import socket\nsocket.create_connection(('1.1.1.1', 53), 1)", "error"),
    "loopback": ("import socket\nsocket.create_connection(('127.0.0.1', 22), 1)", "error"),
    "shell": ("import subprocess\nsubprocess.run(['sh', '-c', 'true'])", "error"),
    "passwords": ("open('/etc/passwd')", "error"),
    "namespace": ("import os\nos.unshare(0x10000000) if hasattr(os, 'unshare') else 1 / 0", "error"),
    "read_server": ("open('/proc/1/mem', 'rb')", "error"),
    "server_descriptors": ("import os\nos.readlink('/proc/1/fd/20')", "error"),
    "raise_hard_limit": ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "error"),
    "server_limits": ("import resource\nresource.prlimit(1, resource.RLIMIT_NOFILE, (5, 5))", "violation"),
    "server_cpu": (
        "import resource\nresource.prlimit(1, resource.RLIMIT_CPU, (0, 0))\nwhile True: pass",
        ("violation", "cpu_timeout"),
    ),
    "channel": (
        "import os\nfor fd in range(3, 1000):\n    try: os.write(fd, b'x' * 64)\n    except OSError: pass",
        "violation",
    ),
}

# Each prints done and harms nothing.
HARMLESS = {
    "daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\nprint('done')",
    "kill_server": "import os\nfor s in (9, 2, 15, 19, 1):\n    os.kill(1, s)\nprint('done')",
    "kill_parent": "import os\nos.kill(os.getppid(), 9)\nprint('done')",
    "kill_group": "import os, signal\nsignal.signal(15, signal.SIG_IGN)\n"
    "try: os.kill(-1, 15)\nexcept ProcessLookupError: pass\nprint('done')",
    "close_all": "import os\nprint('done', flush=True)\nos.closerange(0, 2000)\nos._exit(0)",
    "patch_judge": "import builtins, json, sys\nprint('done', flush=True)\njson.dumps = builtins.print = None\n"
    "sys.modules.clear()\nimport os\nos._exit(0)",
}
