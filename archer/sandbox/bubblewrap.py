"""The default sandbox: each worker is one guest in its own bubblewrap sandbox (Linux).

Covered: no network, not even the host's loopback; a read-only root with nothing but Python's own files
(no site-packages but numpy and sortedcontainers, no /etc, no home, no program but the interpreter); PID,
IPC, mount, UTS and network namespaces; no capabilities, no new privileges, an unprivileged user; a small
memory file system emptied between programs; limits on CPU, wall time, memory, processes, files and output;
an empty environment; a filter of system calls. Not covered: memory is not accounted by the kernel (no
cgroup), and a kernel bug that the allowed system calls reach breaks the sandbox. See ``sandbox/README.md``.

An ordinary user's sandbox lies in a user namespace. Root's does not, because root would still own there what it
owns outside, such as devices; instead each guest starts as root and switches to a user ID of its own.
"""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from archer.errors import MissingError, SandboxError
from archer.sandbox.child import ChildLink, interpreter
from archer.sandbox.guest import (
    FOLDERS,
    GUEST_FILES,
    HIDDEN_FILES,
    HIDDEN_FOLDERS,
    NOBODY,
    PACKAGES,
    PYTHON_FLAGS,
    Guest,
    GuestLost,
)
from archer.sandbox.pool import Pool
from archer.system import suite

FIRST_USER, USERS = 0x60000000, 2**24  # user IDs that no system assigns, one per guest of root
INSTALL = "install it with `apt-get install bubblewrap` (or your distribution's command)"


class BubblewrapExecutor(Pool):
    """Runs programs in ``workers`` bubblewrap sandboxes; a context manager."""

    name = "bubblewrap"

    def __init__(self, workers: int) -> None:
        """Start the workers.

        Raises :class:`~archer.errors.MissingError` if bubblewrap is not installed or the system forbids it,
        :class:`~archer.errors.SandboxError` if the guest does not start.
        """
        program = shutil.which("bwrap")
        if program is None:
            raise MissingError(
                f"sandbox: bubblewrap: the program `bwrap` is not installed; {INSTALL}; "
                "or run programs without isolation, by `--allow-unisolated`"
            )
        start, python = _starter(program)
        super().__init__(start, workers, python)


def _starter(program: str) -> tuple[Callable[[], Guest], str]:
    """Return the first way to start a guest that works here, and the guest's Python. Raises as the constructor."""
    ways: list[Callable[[], Guest]] = [lambda: Guest(ChildLink(_command(program)))]
    if os.geteuid() == 0:
        ways = [
            lambda: Guest(ChildLink(_command(program, FIRST_USER + secrets.randbelow(USERS)))),
            lambda: Guest(ChildLink(_command(program), user=NOBODY)),  # in a container that gives root few rights
        ]
    reasons = []
    for start in ways:
        try:
            guest = start()
            guest.stop()
            return start, guest.python
        except GuestLost as lost:
            reasons.append(str(lost))
    raise _explain(program, "; then ".join(reasons))


def _command(program: str, user: int = 0) -> list[str]:
    """Return the command that starts a guest in its sandbox; ``user`` is the ID that a guest of root switches to."""
    options = _known_options(program)
    command = [program, "--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"]
    if user:  # rights to become that user, given up with it; without --unshare-user, which -all would imply
        kinds = ("ipc", "pid", "net", "uts", "cgroup-try")
        command[1:2] = [f"--unshare-{kind}" for kind in kinds]
        command += ["--cap-drop", "ALL"]
        command += [
            part for right in ("SETUID", "SETGID", "SETPCAP", "CHOWN") for part in ("--cap-add", f"CAP_{right}")
        ]
    else:
        command += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY), "--cap-drop", "ALL"]
        command += ["--disable-userns"] if "--disable-userns" in options else []
    command += ["--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev"]
    for folder in filter(os.path.isdir, HIDDEN_FOLDERS):
        command += ["--tmpfs", folder, "--remount-ro", folder]
    for file in filter(os.path.exists, HIDDEN_FILES):
        command += ["--ro-bind", "/dev/null", file]
    for folder, size in FOLDERS.items():
        command += ["--size", str(size)] if "--size" in options else []
        command += ["--tmpfs", folder]
    binds = _python_files() + _packages()
    for name in GUEST_FILES:
        binds += ["--ro-bind", str(suite("sandbox") / name), f"/guest/{name}"]
    command += _parents(binds) + binds
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]
    for key, value in (("PYTHONHASHSEED", "0"), ("PYTHONUTF8", "1")):
        command += ["--setenv", key, value]
    return [*command, str(interpreter()), *PYTHON_FLAGS, "/guest/runner.py", "/packages", str(user), *FOLDERS]


def _python_files() -> list[str]:
    """Return arguments that show Python's own files and the system's libraries, and hide installed packages.

    Packages are hidden because a data set, or this project, may be installed among them.
    """
    prefix = Path(sys.base_prefix).resolve()
    arguments: list[str] = []
    for name in ("/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            arguments += ["--symlink", os.readlink(name), name]
        else:
            arguments += ["--ro-bind-try", name, name]
    shown = dict.fromkeys(["/usr/lib", "/usr/lib32", "/usr/lib64", f"{prefix}/lib", f"{prefix}/lib64"])
    for folder in [*shown, "/etc/ld.so.cache", str(interpreter())]:
        arguments += ["--ro-bind-try", folder, folder]
    for folder in shown:
        for pattern in ("python3*/site-packages", "python3*/dist-packages"):
            for packages in sorted(Path(folder).glob(pattern)):
                arguments += ["--tmpfs", str(packages), "--remount-ro", str(packages)]
    return arguments


def _parents(binds: Sequence[str]) -> list[str]:
    """Return arguments that create the parents of bound paths: run by root, bubblewrap would make them unreadable."""
    targets = [Path(path) for option, path in zip(binds, binds[2:], strict=False) if option.startswith("--ro-bind")]
    parents = sorted({parent for target in targets for parent in target.parents} - {Path("/")})
    return [part for folder in parents for part in ("--dir", str(folder))]


def _packages() -> list[str]:
    """Return arguments that show the few packages that programs may import, from this Python's installation."""
    arguments: list[str] = []
    for name in PACKAGES:
        spec = find_spec(name)
        for folder in spec.submodule_search_locations or () if spec else ():
            for part in (folder, f"{folder}.libs"):
                arguments += ["--ro-bind-try", part, f"/packages/{Path(part).name}"]
    return arguments


@functools.cache
def _known_options(program: str) -> str:
    return subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout


def _explain(program: str, reason: str) -> MissingError | SandboxError:
    """Return MissingError if the system forbids sandboxes, SandboxError if the guest itself fails."""
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if "bwrap:" not in reason:
        return SandboxError(f"sandbox: bubblewrap: the guest in a fresh sandbox {reason}")
    return MissingError(
        f"sandbox: bubblewrap: {version} cannot make a sandbox here ({reason}). Usually unprivileged user "
        "namespaces are disabled: allow them with `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` "
        "(Ubuntu 24.04), `kernel.unprivileged_userns_clone=1` (Debian) or `user.max_user_namespaces=10000` "
        "(RHEL); inside a container start it with `--security-opt seccomp=unconfined --security-opt "
        "systempaths=unconfined`. Without them: `sandbox: process` with `--allow-unisolated`"
    )
