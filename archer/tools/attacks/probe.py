"""The canary: a program that reports what it finds when it starts; after an attack that must not have changed."""

from __future__ import annotations

import json

from archer.rewards.prelude import PRELUDE
from archer.sandbox.base import Executor, ProgramJob, Stdin, in_order
from archer.sandbox.limits import default_limits

# A folder's time may be that of the sandbox's start or the one set when it is emptied.
CANARY = """
import builtins, fcntl, hashlib, json, os, resource, signal, stat, sys
import threading, time
def read(path, *kept):
    try:
        with open(path) as file:
            return [line for line in file.read().splitlines() if not kept or line.split(":")[0] in kept]
    except OSError as error:
        return [str(error)]
def kind(number):
    try:
        return oct(stat.S_IFMT(os.fstat(int(number)).st_mode))
    except OSError as error:
        return str(error.errno)
def digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()
folders = ("/tmp", "/dev/shm")
print(json.dumps({
    "files": [os.listdir(folder) for folder in folders],
    "times": [os.stat(folder).st_mtime == 10**9 or time.time() - os.stat(folder).st_mtime < 3600 for folder in folders],
    "space": [os.statvfs(folder).f_bfree * 10 // os.statvfs(folder).f_blocks for folder in folders],
    "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    "threads": threading.active_count(),
    "queues": [read("/proc/sysvipc/" + name)[1:] for name in ("shm", "msg", "sem")],
    "descriptors": sorted(map(kind, os.listdir("/proc/self/fd"))),
    "limits": [resource.getrlimit(which) for which in range(16)],
    "environment": [dict(os.environ), read("/proc/self/environ")],
    "root": [0 in (os.getuid(), os.geteuid(), os.getgid(), os.getegid())],
    "umask": os.umask(0o22), "folder": os.getcwd(), "path": sys.path[1:], "name": os.uname().nodename,
    "signals": [str(signal.getsignal(number)) for number in range(1, 32)],
    "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
    "pending": sorted(map(int, signal.sigpending())),
    "status": read("/proc/self/status", "Groups", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp",
                   "Cpus_allowed_list", "Mems_allowed_list", "SigBlk", "SigIgn", "SigCgt"),
    "server": [read("/proc/1/" + name) for name in ("oom_score_adj", "coredump_filter", "comm")],
    "own": [read("/proc/self/" + name) for name in ("oom_score_adj", "coredump_filter", "comm")],
    "server's status": read("/proc/1/status", "Seccomp", "Threads", "SigIgn", "SigCgt", "Cpus_allowed_list"),
    "processors": sorted(os.sched_getaffinity(0)), "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "scheduler": os.sched_getscheduler(0),
    "mounts": sorted({tuple(line.split()[1:3]) for line in read("/proc/self/mounts")}),
    "modules": digest(sorted(sys.modules)), "builtins": digest(sorted(dir(builtins))),
    "functions": digest(*(one.__code__.co_code for one in (json.dumps, json.loads, os.path.join, os.makedirs))),
    "python": [json.dumps([1, "x"]), len("four"), sorted([2, 1]), sum(range(257)), 1000 + 1, 0 == 1,
               sys.getrecursionlimit(), sys.gettrace() is None, len(sys.meta_path), len(sys.path_hooks)],
    "input": sys.stdin.read(),
}))
"""


def look(executor: Executor) -> str:
    """Return what a program finds, as JSON; if it fails, its status and detail."""
    [(_, outcome)] = executor.execute([ProgramJob(CANARY, in_order(Stdin("in")), default_limits(), PRELUDE)])
    run = outcome.runs[0]
    return run.stdout if run.status == "ok" else f"{run.status}: {run.detail}"


def difference(before: str, after: str) -> str:
    """Return what differs between two worlds, with both values; empty if nothing does."""
    if before == after:
        return ""
    try:
        old, new = json.loads(before), json.loads(after)
    except ValueError:
        return f"{before[:200]!r} became {after[:200]!r}"
    return "; ".join(f"{key}: {change(old[key], new.get(key))}" for key in old if old[key] != new.get(key))[:600]


def change(old: object, new: object) -> str:
    """Return two values as text; of lists only the items that differ."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(one, other) for one, other in zip(old, new, strict=True) if one != other]
        return ", ".join(change(one, other) for one, other in pairs)
    return f"{old!r} became {new!r}"
