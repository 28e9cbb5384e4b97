"""The guest: runs untrusted programs, each input in a fresh process, and says how each one ended.

Usage: ``python -S runner.py PACKAGES USER FOLDER...`` with the host at the other end of standard input and
output. PACKAGES is the folder of packages that programs may import. USER is the number of a user to become,
where root starts the guest, or 0 to stay who it is. The first FOLDER is the working directory of every
program; all of them are emptied after each. Standard library only, Python 3.9 or later, never imported by
the host; the other files of this folder belong to it.

Three generations of processes: the server, which stays as it started and never sees a program or an output;
a watcher for each job, forked from it, which takes the job's inputs and ends with it; a process of the
program for each input, forked from the watcher. So a program's memory, a copy of its watcher's, holds
nothing of any other job. As process 1 of a sandbox the server is out of reach of the programs and ends
everything that they leave behind; as an ordinary process it ends what it can find.

A frame is two lengths, a JSON header and raw bytes. Where programs run, expected outputs are never among them.
"""

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import signal
import struct
import sys
import time

import confine
import program
from counters import Counters
from watch import HOST_GONE, ISOLATED, Drain, end, waited_seconds, watch

HEAD = struct.Struct(">II")
LIBC = ctypes.CDLL(None)
# A process with one thread needs none of what Python does after a fork, which touches 170 pages; a program's
# own process, forked from the watcher in Python's way, gets it all.
BARE_FORK = ctypes.PyDLL(None).fork
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 1, 4, 24, 36
PR_SET_THP_DISABLE = 41
CAPABILITY_VERSION_3, M_ARENA_MAX = 0x20080522, -8
STDERR_TAIL, DETAIL_BYTES = 32 * 1024, 2000
DONE, PREPARE, BROKEN = 0, 4, 70  # how a watcher ends, beside HOST_GONE


def main(packages, user, *folders):
    offer_to_end()
    if int(user):
        become_user(int(user), folders)
        program.COUNTS_PROCESSES = ISOLATED  # nobody else is this user
    link = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 20) for number in (0, 1)]
    program.set_up(packages)
    harden()
    filtered = put_on_filter()
    kept = {folder: set(os.listdir(folder)) for folder in folders}
    look_up_all()
    version = ".".join(map(str, sys.version_info[:3]))
    send(link[1], {"python": version, "isolated": ISOLATED, "filtered": filtered})
    while True:
        wish, told = os.pipe()
        pid = BARE_FORK()
        if pid == 0:
            try:
                os.close(wish)
                watch_job(link, kept, told)
            finally:
                os._exit(BROKEN)
        os.close(told)
        _, status = os.waitpid(pid, os.WUNTRACED)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else BROKEN
        if code == PREPARE:
            with open(wish, encoding="utf-8") as text:
                program.ready_modules(text.read())
        elif code == DONE:
            os.close(wish)
        else:  # killed or stopped by a program, or a fault of ours: the host finds out by running a trivial one
            if code != HOST_GONE:
                print(f"the watcher of a job ended with status {status}", file=sys.stderr, flush=True)
            os._exit(code)


def watch_job(link, kept, told):
    """Take the inputs of one job, run each, answer; never returns."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    counters = Counters(list(kept))
    while True:
        request, stdin = receive(link[0])
        if "done" in request:
            counters.level()
            os._exit(DONE)
        if "prepare" in request:
            write_all(told, request["prepare"].encode())
            os._exit(PREPARE)
        write_all(counters.stdin, stdin)
        os.lseek(counters.stdin, 0, os.SEEK_SET)
        answer, body = serve(link[0], request, counters.stdin, list(kept))
        wiped = [wipe(folder, names) for folder, names in kept.items()]
        answer["spent"] = not all(wiped) or answer["status"] == "violation"
        answer["last"] = counters.overdrawn(request["most_inputs"])
        send(link[1], answer, body)


def look_up_all():
    """See every file of ``/proc`` that stays: its times are those of its first look, which should be no program's.

    A link keeps the time of the first look through it, which must be later than its own first.
    """
    for look in (os.lstat, os.stat):
        for folder in ("/proc", "/proc/1"):
            for place, folders, files in os.walk(folder):
                folders[:] = [name for name in folders if not (place == "/proc" and name.isdigit())]
                for name in (*folders, *files):
                    with contextlib.suppress(OSError):
                        look(os.path.join(place, name))
        time.sleep(0.01)


def offer_to_end():
    """In a shortage of memory the host's own processes should survive, not these."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("800")


def become_user(user, folders):
    """Give up root, and with it every capability, for a user who owns nothing but the folders."""
    for folder in folders:
        os.chown(folder, user, user)
    for right in range(64):
        LIBC.prctl(PR_CAPBSET_DROP, right, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    LIBC.capset(struct.pack("II", CAPABILITY_VERSION_3, 0), bytes(24))  # what could be inherited goes, too
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # forgotten with the old user


def put_on_filter():
    """Filter system calls from here on; only without isolation may that fail."""
    try:
        profile, numbers = json.loads(guest_file("seccomp.json")), json.loads(guest_file("syscalls.json"))
        confine.put_on(confine.build(profile, numbers))
        return True
    except (RuntimeError, OSError):
        if ISOLATED:
            raise
        return False


def guest_file(name):
    """A file of the guest's: sent along with this one, or beside it."""
    if "FILES" in globals():
        return globals()["FILES"][name]
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name)) as file:
        return file.read()


def harden():
    """Leave nothing of the host to read, and nothing of this process to touch."""
    os.environ.clear()
    LIBC.setenv(b"OPENBLAS_NUM_THREADS", b"1", 1)  # else numpy starts a thread for each core of the host
    LIBC.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)  # a huge page stays in memory while any small part of it is mapped
    LIBC.mallopt(M_ARENA_MAX, 2)  # else each thread reserves 64 MiB of the address space that is limited
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # process 1 is immune to signals without a handler
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # and no program can change it: the dead must be counted
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # no ptrace, no /proc/1/mem, no /proc/1/fd
    gc.collect()
    gc.freeze()


def receive(link):
    sizes = HEAD.unpack(read_exactly(link, HEAD.size))
    return json.loads(read_exactly(link, sizes[0])), read_exactly(link, sizes[1])


def read_exactly(link, size):
    data = bytearray()
    while len(data) < size:
        chunk = os.read(link, min(size - len(data), 2**20))
        if not chunk:
            os._exit(HOST_GONE)
        data += chunk
    return bytes(data)


def send(link, header, body=b""):
    text = json.dumps(header).encode()
    write_all(link, HEAD.pack(len(text), len(body)) + text + body)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


# ---- one input: start, watch, end


def serve(link, request, stdin_fd, folders):
    """Run one input; return the header and body of the answer."""
    pipes = [os.pipe() for _ in range(3)]  # stdout, stderr and the private channel for a result
    token = os.urandom(16)
    has_value = request["kind"] != "stdin"
    module = program.ready_module(program.NAMES[has_value], request["prelude"])
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            fds = [stdin_fd] + [write for _, write in pipes]
            program.become(request, module, token, fds, folders[0])
        finally:
            os._exit(70)
    for fd in [stdin_fd] + [write for _, write in pipes]:
        os.close(fd)
    drains = [Drain(read, request["limits"]["output_bytes"]) for read, _ in pipes]
    ended_by_us = watch(link, pid, drains, request["limits"], folders, started)
    waited = waited_seconds(pid) if ended_by_us else 0.0
    code, cpu = end(pid)
    seconds = time.monotonic() - started
    stdout, stderr, channel = (drain.finish() for drain in drains)
    value = b""
    if ended_by_us:
        status, detail = ended_by_us
    elif any(drain.full for drain in drains):
        status, detail = "output", "more output than the limit"
    elif cpu > request["limits"]["cpu_seconds"] or code == -signal.SIGXCPU:
        status, detail = "cpu_timeout", "more CPU time than the limit"
    else:
        status, detail, value = conclude(code, channel, token, has_value)
    stderr = stderr[-STDERR_TAIL:]
    header = {"status": status, "detail": detail, "code": code, "seconds": seconds, "cpu": cpu, "waited": waited}
    header["sizes"] = [len(stdout), len(stderr), len(value)]
    return header, stdout + stderr + value


def conclude(code, channel, token, has_value):
    """Status, detail and value of a program that ended by itself."""
    kind, payload = b"", b""
    if channel:
        size = int.from_bytes(channel[16:20], "big")
        kind, payload = channel[20:21], channel[21:]
        if channel[:16] != token or len(payload) != size or (kind == b"V" and not has_value):
            return "violation", "the program wrote to the channel of its sandbox", b""
    if kind == b"X":
        raise RuntimeError(f"a program's process could not be prepared: {payload!r}")
    if kind in (b"E", b"M"):
        return "error" if kind == b"E" else "memory", payload[:DETAIL_BYTES].decode("utf-8", "replace"), b""
    if code < 0:
        return "error", f"ended by signal {-code}", b""
    if code > 0:
        return "error", f"exit code {code}", b""
    if has_value and kind != b"V":
        return "error", "the program ended before it returned a value", b""
    return "ok", "", payload


def wipe(folder, kept):
    """Empty a folder, its marks too; return False where only a new sandbox is certain to be clean."""
    try:
        os.chmod(folder, 0o700)
        names = [name for name in os.listdir(folder) if name not in kept]
        for name in names[:256]:
            os.unlink(os.path.join(folder, name))
        os.utime(folder, (10**9, 10**9))
        return len(names) <= 256
    except OSError:
        return False


if __name__ == "__main__":
    main(*sys.argv[1:])
