"""The guest's middle: watch a program while it runs, and end it with all that it started.

See ``runner.py``. Limits that the kernel keeps per process (address space, CPU seconds) are kept here for
all processes of a program together, a hundred times a second.
"""

import contextlib
import os
import select
import signal
import time

from charge import MOST_TABLES, PAGE, Account

ISOLATED = os.getpid() == 1  # looked at once, in the server
HOST_GONE = 5
TICK = os.sysconf("SC_CLK_TCK")
MOST_WATCHING = 0.1  # of the elapsed time: what looks at an ordinary program take at most
MOST_FILES = 4096  # in the folders that programs may write to
LOOK_SECONDS = 0.01 if ISOLATED else 0.05  # between looks, each other one close; a bomb grows that long


class Drain:
    """Reads a pipe up to a number of bytes; never waits for its end, which a daemon could put off."""

    def __init__(self, fd, limit):
        self.fd, self.limit, self.data, self.full = fd, limit, bytearray(), False
        os.set_blocking(fd, False)

    def pull(self):
        """Take one chunk; return False when there is none now or ever."""
        try:
            chunk = os.read(self.fd, 2**18)
        except BlockingIOError:
            return False
        self.data += chunk
        self.full = len(self.data) > self.limit
        return bool(chunk) and not self.full

    def finish(self):
        while not self.full and self.pull():
            pass
        os.close(self.fd)
        return bytes(self.data[: self.limit])


def watch(link, pid, drains, limits, folders, started):
    """Wait for the program's main process; return (status, detail) if it must be ended instead."""
    poller, pidfd = select.poll(), os.pidfd_open(pid)
    by_fd = {drain.fd: drain for drain in drains}
    for fd in [pidfd, link, *by_fd]:
        poller.register(fd, select.POLLIN)
    begun = time.process_time()
    try:
        look, closely = started + LOOK_SECONDS, False
        while True:
            for fd, _ in poller.poll(max(0.0, look - time.monotonic()) * 1000):
                if fd == pidfd:
                    return None
                if fd == link:  # nothing is asked during a run: the host is gone
                    end(pid)
                    os._exit(HOST_GONE)
                if not by_fd[fd].pull() and not by_fd[fd].full:
                    poller.unregister(fd)  # closed by the program
                if by_fd[fd].full:
                    return "output", "more output than the limit"
            now = time.monotonic()
            if now >= look:
                look = now + LOOK_SECONDS
                watched = time.process_time() - begun
                if excess := over_limit(pid, limits, folders, now - started, closely, watched):
                    return excess
                closely = not closely
    finally:
        os.close(pidfd)


def over_limit(pid, limits, folders, seconds, closely=True, watched=0.0):
    """Name the limit that all processes of the program together exceed; looked at closely, with the kernel's memory.

    ``watched`` is the CPU time that the looks took so far: more than a little of it is the program's doing.
    """
    cpu, tasks, account = max(0.0, watched - MOST_WATCHING * seconds), 0, Account()
    for name in os.listdir(b"/proc"):
        if not name.isdigit() or int(name) in (1, os.getpid()):
            continue
        try:
            with open(b"/proc/" + name + b"/stat", "rb", 0) as file:
                state, *fields = file.read().rpartition(b")")[2].split()
            session, threads = int(fields[2]), int(fields[16])
            if ISOLATED or session == pid:
                cpu += sum(map(int, fields[10:14])) / TICK
                tasks += threads
                if not closely:
                    account.memory += int(fields[20]) * PAGE
                elif session != os.getsid(0):  # else it is being prepared: no line of the program has run
                    account.add(b"/proc/" + name, state == b"Z", threads)
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:  # such as one that runs a file which it may not read
            return "violation", "a process that its sandbox cannot look into"
    if cpu > limits["cpu_seconds"]:
        return "cpu_timeout", "more CPU time than the limit"
    if tasks > limits["processes"]:
        return "violation", "more processes than the limit"
    if account.memory > limits["memory_bytes"]:
        return "memory", "more memory than the limit"
    if account.tables > MOST_TABLES:
        return "memory", "more mappings than the limit"
    if ISOLATED and sum(map(files_in, folders)) > MOST_FILES:
        return "violation", "more files than the limit"
    return ("wall_timeout", "more time than the limit") if seconds > limits["wall_seconds"] else None


def files_in(folder):
    """How many files there are on the file system of a folder, counted by the kernel; each takes memory."""
    found = os.statvfs(folder)
    return found.f_files - found.f_ffree


def waited_seconds(pid):
    """How long the program's main thread was ready to run and no core was free: load, not the program."""
    try:
        with open(f"/proc/{pid}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return None  # a kernel that does not say


def end(pid):
    """Kill and reap everything the program started; return its exit code and CPU seconds."""
    kill_all()
    _, status, usage = os.wait4(pid, 0)
    cpu = usage.ru_utime + usage.ru_stime
    while True:
        kill_all()  # again: what was forked meanwhile, or handed to us by a dead parent
        try:
            _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return os.waitstatus_to_exitcode(status), cpu
        cpu += usage.ru_utime + usage.ru_stime


def kill_all():
    if ISOLATED:
        targets = ["-1"]
    else:  # never kill(-1) outside a sandbox: orphans come to this process and are found here
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            targets = file.read().split()
    for target in targets:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(target), signal.SIGKILL)
