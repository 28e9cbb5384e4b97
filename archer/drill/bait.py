"""What a drill lays out on the host for attacks to reach: if one does, the sandbox has a hole."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "ARCHER_DRILL_SECRET"


@dataclass(frozen=True)
class Bait:
    """A secret in a file and in the environment, a path that must not come to exist, and open ears."""

    token: str
    secret: str
    marker: Path
    secret_file: Path
    ears: tuple[socket.socket, ...]

    @property
    def port(self) -> int:
        """The loopback port at which TCP and UDP are listened to."""
        return int(self.ears[0].getsockname()[1])

    def told(self, program: str) -> str:
        """Return a program with its placeholders replaced: an attack may know where to look."""
        known = {
            "token": self.token, "marker": self.marker, "secret_file": self.secret_file, "port": self.port,
            "abstract": self.token,
        }  # fmt: skip
        for name, value in known.items():
            program = program.replace("{{" + name + "}}", str(value))
        return program

    def reached(self) -> list[str]:
        """Say what of this was reached."""
        found = [f"the file {self.marker} exists"] if self.marker.exists() else []
        for ear in self.ears:
            with suppress(BlockingIOError):
                if ear.type == socket.SOCK_DGRAM:
                    ear.recv(1)
                else:
                    ear.accept()[0].close()
                found.append(f"a message came to {ear.getsockname()!r}")
        return found


@contextmanager
def laid_out() -> Iterator[Bait]:
    """Lay everything out, and take it away at the end."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="archer-drill-")))
        home.chmod(0o755)
        token, secret = f"drill{secrets.token_hex(6)}", f"secret{secrets.token_hex(12)}"
        secret_file = home / "secret.txt"
        secret_file.write_text(secret)
        os.environ[VARIABLE] = secret
        stack.callback(os.environ.pop, VARIABLE)
        ears = tuple(stack.enter_context(ear) for ear in listening(token))
        yield Bait(token, secret, home / "escaped", secret_file, ears)


def listening(name: str) -> list[socket.socket]:
    """Return sockets that listen on loopback, TCP and UDP at one port, and at an abstract name."""
    tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    near = socket.socket(socket.AF_UNIX)
    tcp.bind(("127.0.0.1", 0))
    udp.bind(tcp.getsockname())
    near.bind(f"\0{name}")
    for ear in (tcp, near):
        ear.listen()
    for ear in (tcp, udp, near):
        ear.setblocking(False)
    return [tcp, udp, near]
