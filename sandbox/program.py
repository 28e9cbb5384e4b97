"""The guest's inner part: what happens inside the process of one program. See ``runner.py``.

The process has its own session, limits, working directory and descriptors 0, 1 and 2 before the first
line of untrusted code runs. A result or an error leaves through a private descriptor, framed with a
secret. A program that finds both can only report what it could as well have returned or raised: what is
right is decided by the host, which alone knows the expected outputs.
"""

import _signal  # without the enumerations around it, which cost a new process 0.1 ms
import atexit
import contextlib
import ctypes
import fcntl
import functools
import gc
import json
import linecache
import math
import os
import re
import resource
import site
import sys
import threading
import traceback
import types

from values import plain, rebuilt

WARM = (
    "array bisect collections copy datetime decimal fractions heapq io itertools operator queue random "
    "statistics string typing"
)
for name in WARM.split():  # what programs often import: a fork has it already
    __import__(name)

ISOLATED = os.getpid() == 1
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
MOST_SIGNALS = 1024  # queued: kernel memory that nothing else counts
STACK_BYTES = 120 * 2**20  # the kernel keeps 128 MiB free below the main stack
RECURSION = 50_000
FIRST_CHANNEL, CHANNELS = 100, 800
OWN_FILES, MOST_FRAMES = (__file__, plain.__code__.co_filename), 20
NAMES = ("__main__", "solution")  # of the module that a program is: a script's, a library's
RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE = 11, 12  # unnamed before Python 3.12
KERNEL = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
with open("/proc/self/uid_map") as file:
    OWN_USERS = int(file.read().split()[2]) < 2**32 - 1
# Older kernels, and containers without users of their own, count processes of other sandboxes too.
COUNTS_PROCESSES = ISOLATED and OWN_USERS and KERNEL >= (5, 14)


def ready_modules(prelude):
    """In the server, ahead of the forks: execute a prelude once for all jobs that have it."""
    for name in NAMES:
        ready_module(name, prelude)


@functools.lru_cache(8)
def ready_module(name, prelude):
    """The module of a program, with the host's prelude executed."""
    module = types.ModuleType(name)
    exec(prelude, module.__dict__)
    gc.freeze()
    return module


def become(request, module, token, fds, folder):
    """Turn this fresh process into the program; never returns."""
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    number = FIRST_CHANNEL + int.from_bytes(os.urandom(2), "big") % CHANNELS
    channel = fcntl.fcntl(fds[3], fcntl.F_DUPFD_CLOEXEC, number)

    own = os.getpid()

    def report(kind, payload):
        if os.getpid() != own:  # what a child of the program raises is between the two
            return
        view = memoryview(token + len(payload).to_bytes(4, "big") + kind + payload)
        while view:
            view = view[os.write(channel, view) :]

    try:
        os.closerange(3, channel)
        os.closerange(channel + 1, FIRST_CHANNEL + CHANNELS + 1)
        prepare(folder, request["limits"])
    except BaseException as error:
        report(b"X", repr(error).encode())
        os._exit(70)
    os._exit(run(request, module, report))


def set_up(packages):
    """Once, in the server: what every program finds when it starts, so that a fork has it already."""
    placeholder, (read, write) = os.memfd_create("stdin"), os.pipe()  # of the kinds that programs get
    for fd, number in ((placeholder, 0), (write, 1)):
        os.dup2(fd, number)
        os.close(fd)
    os.close(read)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.argv = ["main.py"]
    sys.path[0] = packages  # instead of the guest's own folder
    sys.setrecursionlimit(RECURSION)
    site.setquit()  # exit() and quit(), which -S leaves out
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)  # the CPU limit bounds it; older Pythons print long numbers too


def prepare(folder, limits):
    """In the program's process: a session, a folder and limits of its own."""
    if not ISOLATED:  # a sandbox ends with its process 1 anyway
        LIBC.prctl(PR_SET_PDEATHSIG, _signal.SIGKILL, 0, 0, 0)
    LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # its own /dev/stdin lies in /proc, closed to who is not
    os.setsid()  # from here on the watcher expects to be able to look into it
    os.chdir(folder)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    values = {
        resource.RLIMIT_STACK: STACK_BYTES,
        # A backstop: the watcher looks more finely, and the kernel counts this by ticks, a fifth off on a busy machine.
        resource.RLIMIT_CPU: 2 * math.ceil(limits["cpu_seconds"]) + 1,
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_CORE: 0,
        RLIMIT_MSGQUEUE: 0,
        RLIMIT_SIGPENDING: MOST_SIGNALS,
    }
    if COUNTS_PROCESSES:
        values[resource.RLIMIT_NPROC] = limits["processes"] + 2  # and the server and the watcher
    for which, value in values.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def run(request, module, report):
    """Execute the program (and the call); report a result or an error; return the exit code."""
    granted = len(module.__dict__)
    sys.modules[module.__name__] = sys.modules["__main__"] = module
    try:
        try:
            code = compile(request["program"], "main.py", "exec", dont_inherit=True)
            if request["kind"] != "stdin":
                report(b"V", json.dumps(plain(result(module, code, request))).encode())
                return 0
            exec(code, module.__dict__)
            code = 0
        except SystemExit as stop:
            code = exit_code(stop.code)
        leave(module, granted)
        return code
    except MemoryError:
        pass  # leave the handler first: its traceback holds what fills the memory
    except BaseException as error:
        explain(error, request["program"], report)
        return 1
    module.__dict__.clear()
    report(b"M", b"MemoryError")
    return 1


def exit_code(code):
    """The exit code of ``sys.exit(code)``; anything but a number is printed, as the interpreter does."""
    if code is None or isinstance(code, int):
        return int(code or 0) & 255
    print(code, file=sys.stderr)
    return 1


def leave(module, granted):
    """What the interpreter does at its end: join threads, exit handlers, flush and close files.

    What fails after the program's names are gone fails in silence, as it does there.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    flush()
    while len(module.__dict__) > granted:  # the prelude's names stay: to touch them is to copy them
        module.__dict__.popitem()
    gc.collect()  # closes, and so flushes, the files that only globals held
    with contextlib.suppress(Exception):
        flush()


def flush():
    for stream in (sys.stdout, sys.__stdout__, sys.stderr):
        if hasattr(stream, "flush") and not getattr(stream, "closed", False):
            stream.flush()


def result(module, code, request):
    """Load the program, then make the call or evaluate the expression that is asked for."""
    if request["kind"] == "call":
        return call(module, code, request["function"], [rebuilt(value) for value in request["arguments"]])
    exec(code, module.__dict__)
    exec(request["setup"], module.__dict__)
    return eval(request["text"], module.__dict__)


def call(module, code, name, arguments):
    """Load the program, then call its function ``f``, or f of a new ``Solution`` for ``Solution.f`` or ``f``.

    A name that the prelude granted is not the program's: ``count`` may be itertools'.
    """
    owner, _, method = name.rpartition(".")
    granted = getattr(module, method, None)
    exec(code, module.__dict__)
    if not owner and getattr(module, method, None) is not granted:
        return getattr(module, method)(*arguments)
    kind = getattr(module, owner or "Solution", None)
    if kind is None or not hasattr(kind, method):
        raise NameError("the program does not define " + name)
    return getattr(kind(), method)(*arguments)


def explain(error, program, report):
    """Send what went wrong, and print the traceback as the interpreter would, or its end."""
    detail = "".join(traceback.format_exception_only(type(error), error)).strip()[-500:]
    report(b"E", detail.encode("utf-8", "backslashreplace"))
    linecache.cache["main.py"] = (len(program), None, program.splitlines(True), "main.py")
    text = "".join(traceback.format_exception(type(error), error, last_frames(error.__traceback__)))
    print(text, file=sys.stderr, end="", flush=True)
    sys.stdout.flush()


def last_frames(place):
    """The program's last frames of a traceback: reading tens of thousands of them would take its time."""
    frames = []
    while place is not None:
        if place.tb_frame.f_code.co_filename not in OWN_FILES:
            frames.append(place)
        place = place.tb_next
    return frames[max(0, len(frames) - MOST_FRAMES)] if frames else None
