"""Decoys that an attack run sets up on the host: if an attack reaches one, the sandbox has a hole."""

from __future__ import annotations

import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "ARCHER_DRILL_SECRET"
DEVICES = ("full", "null", "random", "tty", "urandom", "zero")  # a sandbox may show the host's own nodes
SETTINGS = ("kernel/hostname", "kernel/domainname", "kernel/core_pattern", "vm/overcommit_memory")


@dataclass(frozen=True)
class Decoys:
    """A secret in a file and in the environment, a path that must not come to exist, and listening sockets."""

    token: str
    secret: str
    marker: Path
    secret_file: Path
    ears: tuple[socket.socket, ...]
    settings: dict[str, str]  # of the host, as last read

    @property
    def port(self) -> int:
        """The loopback port on which TCP and UDP sockets listen."""
        return int(self.ears[0].getsockname()[1])

    def told(self, program: str) -> str:
        """Return a program with its placeholders replaced by where the decoys are."""
        known = {
            "token": self.token, "marker": self.marker, "secret_file": self.secret_file, "port": self.port,
            "abstract": self.token, "unix_path": self.secret_file.with_name("socket"),
        }  # fmt: skip
        for name, value in known.items():
            program = program.replace("{{" + name + "}}", str(value))
        return program

    def reached(self) -> list[str]:
        """Return a sentence for each decoy that was reached and each setting that changed since the last call."""
        reached = [f"the file {self.marker} exists"] if self.marker.exists() else []
        for ear in self.ears:
            with suppress(BlockingIOError):
                if ear.type == socket.SOCK_DGRAM:
                    ear.recv(1)
                else:
                    ear.accept()[0].close()
                reached.append(f"a message came to {ear.getsockname()!r}")
        now = settings()
        reached += [f"{name} of the host became {now[name]}" for name in now if now[name] != self.settings[name]]
        self.settings.update(now)
        return reached

    def strays(self) -> list[str]:
        """Return the host's processes that carry the token: those of an attack that outlived its sandbox."""
        strays = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if self.token.encode() in path.read_bytes():
                    strays.append(f"the process {path.parent.name} remains")
        return strays


@contextmanager
def laid_out() -> Iterator[Decoys]:
    """Set up all decoys, and remove them at the end."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="archer-drill-")))
        home.chmod(0o755)
        token, secret = f"drill{secrets.token_hex(6)}", f"secret{secrets.token_hex(12)}"
        secret_file = home / "secret.txt"
        secret_file.write_text(secret)
        os.environ[VARIABLE] = secret
        stack.callback(os.environ.pop, VARIABLE)
        ears = tuple(stack.enter_context(ear) for ear in listening(token, home / "socket"))
        stack.callback(restore, {name: Path("/dev", name).stat().st_mode for name in DEVICES})
        yield Decoys(token, secret, home / "escaped", secret_file, ears, settings())


def settings() -> dict[str, str]:
    """Return host settings that an attack might change."""
    values = {f"/proc/sys/{name}": Path("/proc/sys", name).read_text().strip() for name in SETTINGS}
    for name in DEVICES:
        about = Path("/dev", name).stat()
        values[f"/dev/{name}"] = f"{about.st_mode:o} {about.st_uid} {about.st_gid} {about.st_mtime > 1000}"
    return values


def restore(modes: Mapping[str, int]) -> None:
    """Restore the modes of the devices."""
    for name, mode in modes.items():
        if Path("/dev", name).stat().st_mode != mode:
            with suppress(OSError):
                Path("/dev", name).chmod(stat.S_IMODE(mode))


def listening(name: str, path: Path) -> list[socket.socket]:
    """Return sockets that listen on one loopback port (TCP and UDP), at an abstract name and at a path."""
    tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    abstract, near = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    tcp.bind(("127.0.0.1", 0))
    udp.bind(tcp.getsockname())
    abstract.bind(f"\0{name}")
    near.bind(str(path))
    for ear in (tcp, abstract, near):
        ear.listen()
    for ear in (tcp, udp, abstract, near):
        ear.setblocking(False)
    return [tcp, udp, abstract, near]
