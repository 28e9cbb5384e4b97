"""The guest's middle: watch a program while it runs, and end it with all that it started.

See ``runner.py``. Limits that the kernel keeps per process (address space, CPU seconds) are kept here for
all processes of a program together, a hundred times a second.
"""

import contextlib
import os
import resource
import select
import signal
import time

ISOLATED = os.getpid() == 1  # looked at once, in the server
HOST_GONE = 5
PAGE, TICK = resource.getpagesize(), os.sysconf("SC_CLK_TCK")
MOST_FILES = 4096  # in the folders that programs may write to
LOOK_SECONDS = 0.01 if ISOLATED else 0.05  # between looks at a program's use; a bomb grows that long


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
    try:
        look = started + LOOK_SECONDS
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
                if excess := over_limit(pid, limits, folders, now - started):
                    return excess
    finally:
        os.close(pidfd)


def over_limit(pid, limits, folders, seconds):
    """Name the limit that all processes of the program together exceed."""
    cpu, memory, tasks, pids = 0.0, 0, 0, []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/" + name + "/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(name) not in (1, os.getpid()) and (ISOLATED or int(fields[3]) == pid):  # field 3: the session
            cpu += sum(map(int, fields[11:15])) / TICK
            tasks += int(fields[17])
            memory += int(fields[21]) * PAGE
            pids.append(name)
    if cpu > limits["cpu_seconds"]:
        return "cpu_timeout", "more CPU time than the limit"
    if tasks > limits["processes"]:
        return "violation", "more processes than the limit"
    if memory + (shared_bytes(pids) if len(pids) > 1 else 0) > limits["memory_bytes"]:
        return "memory", "more memory than the limit"
    if ISOLATED and sum(map(files_in, folders)) > MOST_FILES:
        return "violation", "more files than the limit"
    return ("wall_timeout", "more time than the limit") if seconds > limits["wall_seconds"] else None


def shared_bytes(pids):
    """The size of what processes share by mapping it: resident in none of them, perhaps, and in memory all the same."""
    sizes = {}
    for pid in pids:
        try:
            with open("/proc/" + pid + "/maps") as file:
                lines = file.read().splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it ends, or becomes another program
            continue
        for place, rights, _, device, inode, *_ in map(str.split, lines):
            if rights[3] == "s":
                begin, end = (int(part, 16) for part in place.split("-"))
                sizes[device, inode] = max(end - begin, sizes.get((device, inode), 0))
    return sum(sizes.values())


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
