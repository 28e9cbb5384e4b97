"""The guest's account of memory: what a program's processes are charged for. See ``watch.py``.

Beside resident pages a process pins memory of the kernel: page tables, records of its mappings, what lies
unread in pipes and sockets. Where the kernel does not say how much, the most that it can be is charged. All is
read as bytes: names in ``/proc`` are the program's own choice.
"""

import _socket  # without what surrounds it in Python, which takes 5 ms to import
import os
import time


def most_in_a_socket():
    """How much unread data a socket can hold: the sender's limit, passed by its last message."""
    near, far = _socket.socketpair()
    size = near.getsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF)
    near.close()
    far.close()
    return 2 * size


PAGE = os.sysconf("SC_PAGESIZE")
DESCRIPTOR_BYTES = 16 * PAGE  # what a pipe holds; other kinds hold less
# A file of /proc keeps a buffer as long as its longest line, which can be a path through every folder there may be.
KINDS = ((b"socket:", most_in_a_socket()), (b"/proc/", 2**23))
COUNTED = (b"VmRSS:", b"VmSwap:", b"VmPTE:", b"HugetlbPages:")  # in kilobytes, as the kernel counts them
MOST_TABLES = 2**20  # bytes of the lists of all mappings: 50 to 100 bytes each, 300 bytes in the kernel
PATIENCE_SECONDS = 0.1  # for those lists: a program can hold the lock that they are read under


class Account:
    """What the processes of a program hold, added up in one look at them."""

    def __init__(self):
        self.memory, self.tables = 0, 0
        self.deadline = time.monotonic() + PATIENCE_SECONDS

    def add(self, process, ended, threads):
        """Add a process by its folder in ``/proc``. Raises PermissionError where it cannot be looked into.

        A main thread that has ended shows nothing of what the others still hold, so one of them is asked.
        """
        folders = [process]
        if ended and threads > 1:
            folders = [process + b"/task/" + name for name in os.listdir(process + b"/task")]
        found = [self.look(folder) for folder in folders]
        self.memory += max((memory for memory, _ in found), default=0)
        self.tables += max((tables for _, tables in found), default=0)

    def look(self, folder):
        """What a process or thread holds: bytes of memory, bytes of its list of mappings."""
        try:
            return held(folder), self.listed(folder)
        except (FileNotFoundError, ProcessLookupError):
            return 0, 0
        except PermissionError:
            if in_memory(folder):
                raise
            return 0, 0  # it has ended

    def listed(self, folder):
        """How long the list of a process's mappings is, read no further than it matters."""
        size = 0
        with open(folder + b"/maps", "rb", 0) as file:
            while self.tables + size <= MOST_TABLES and time.monotonic() < self.deadline:
                part = len(file.read(2**16))
                if not part:
                    break
                size += part
        return size


def in_memory(folder):
    """Kilobytes of a process in memory, by kind; none of one that has ended."""
    with open(folder + b"/status", "rb", 0) as file:
        return [int(line.split()[1]) for line in file.read().splitlines() if line.startswith(COUNTED)]


def held(folder):
    """How many bytes a process holds in memory."""
    descriptors = sum(most_behind(folder + b"/fd/" + name) for name in os.listdir(folder + b"/fd"))
    return descriptors + 1024 * sum(in_memory(folder))


def most_behind(descriptor):
    """How many bytes the kernel may hold for a descriptor."""
    try:
        kind = os.readlink(descriptor)
    except OSError:  # closed meanwhile, or its name is too long
        return DESCRIPTOR_BYTES
    return next((size for start, size in KINDS if kind.startswith(start)), DESCRIPTOR_BYTES)
