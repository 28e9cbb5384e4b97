"""The guest's counters: what the kernel numbers in turn, and a program can read. See ``runner.py``.

Processes and files get the next number of their sandbox. A program that reads its own could tell from them how
many inputs were run before it, and so how far an earlier program got with the same tests: an oracle for answers.
So every job uses up as many numbers, however many inputs it had; what is missing at its end is used up then.
A program that took more than its share, or any number of a file, was the last one of its sandbox.
"""

import ctypes
import os

ISOLATED = os.getpid() == 1  # looked at once, in the server
SYSCALL = ctypes.CDLL(None).syscall  # found once, in the server
SHARES = (16, 64, 256, 1024, 4096)  # inputs of a job whose most inputs are not known count as the next of these
SPARE = 4  # more processes or threads than one an input
CLONE = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine)
ALL_SHARED, CLONE_PIDFD = 0xF00, 0x1000  # CLONE_VM, FS, FILES and SIGHAND: nothing is copied
SIGCHLD = 17
NOWHERE = 1  # an address that no process has
FILE = os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC  # without a name, and never to be given one


class Counters:
    """The numbers that one job uses, in its watcher's process."""

    def __init__(self, folders):
        self.folders, self.inputs, self.most, self.watcher = folders, 0, 0, os.getpid()
        self.stdin, self.files = None, []
        self.next_files()

    def next_files(self):
        """Make the next standard input and number a file of each folder; return whether no other got a number."""
        files = [new_file(folder) for folder in self.folders]
        numbers = [os.fstat(file).st_ino for file in files]
        in_turn = [number - 1 for number in numbers] == self.files
        self.stdin, self.files = files[0], numbers
        for file in files[1:]:
            os.close(file)
        return in_turn

    def overdrawn(self, most_inputs):
        """After an input of a job that has at most so many: whether its program took more than its share."""
        self.inputs, self.most = self.inputs + 1, most_inputs
        in_turn = self.next_files()
        return ISOLATED and not (in_turn and 0 < last_process() - self.watcher <= self.processes())

    def share(self):
        """For how many inputs this job uses up numbers, which does not tell how many it had."""
        return next(share for share in (self.most, *SHARES, self.inputs) if share >= self.inputs)

    def processes(self):
        """How many numbers of processes and threads this job uses up."""
        return 2 * self.share() + SPARE

    def level(self):
        """At the end of the job: use up the rest of its share."""
        if ISOLATED:
            for _ in range(self.share() - self.inputs):
                for folder in self.folders:
                    os.close(new_file(folder))
            for _ in range(self.watcher + self.processes() - last_process()):
                skip_process()


def new_file(folder):
    """An empty file without a name, which cannot be given one; new, since a program may mark it."""
    try:
        return os.open(folder, FILE, 0o600)
    except OSError:  # a file system that has no such files
        path = os.path.join(folder, "stdin")
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        return fd


def last_process():
    """The number that the sandbox's last new process or thread got."""
    file = os.open("/proc/loadavg", os.O_RDONLY)
    try:
        return int(os.read(file, 256).split()[-1])
    finally:
        os.close(file)


def skip_process():
    """Use up a number without a process: the kernel gives one out, then finds nowhere to write it."""
    SYSCALL(CLONE, ALL_SHARED | CLONE_PIDFD | SIGCHLD, 0, NOWHERE, 0, 0)
