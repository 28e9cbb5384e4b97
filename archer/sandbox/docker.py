"""The sandbox on Docker hosts: each worker is one guest in a warm, hardened container, near or far.

Covered, beyond what the guest does itself: no network at all; a read-only root; no capabilities, no new
privileges, an unprivileged user; PID, IPC, UTS, mount and network namespaces; memory and processes accounted
by the kernel (cgroups); Docker's own filter of system calls below the guest's. Not covered: a hole in
the kernel or in Docker is a hole in this sandbox. See ``sandbox/README.md``.

The image holds Python and the packages that programs may import; the guest itself travels over the link, so
that image and host cannot disagree.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

from archer.errors import MissingError, SandboxError, UserError
from archer.sandbox.base import Limits, Outcome, ProgramJob
from archer.sandbox.guest import (
    ENVIRONMENT,
    FOLDERS,
    GUEST_FILES,
    HIDDEN_FILES,
    HIDDEN_FOLDERS,
    NOBODY,
    PYTHON_FLAGS,
    Guest,
    GuestLost,
)
from archer.sandbox.limits import default_limits
from archer.sandbox.pool import Pool
from archer.system import suite

IMAGE = "archer-sandbox"
LABEL = "archer.sandbox"  # on every container that this project starts: `docker ps --filter label=archer.sandbox`
SPARE_BYTES = 192 * 2**20  # beside the programs' memory: the server, the folders, buffers of the kernel
SPARE_PROCESSES = 48  # a bomb is ended by the guest first; this is the kernel's backstop
STDOUT, STDERR = 1, 2
FAILED: tuple[type[Exception], ...] = (DockerException, RequestException, OSError, EOFError)
with contextlib.suppress(ImportError):  # comes along where Docker hosts are reached by ssh
    from paramiko import SSHException

    FAILED += (SSHException,)
# Reads one length and the guest's files as JSON, then becomes the guest.
START = """
import json, os, sys, types
def take(size):
    data = b""
    while len(data) < size:
        chunk = os.read(0, size - len(data))
        if not chunk:
            os._exit(0)
        data += chunk
    return data
files = json.loads(take(int.from_bytes(take(4), "big")))
def load(name, module):
    module.__file__, module.FILES = "/guest/" + name, files
    exec(compile(files[name], module.__file__, "exec"), module.__dict__)
*modules, last = [name for name in files if name.endswith(".py")]
for name in modules:
    module = sys.modules[name[:-3]] = types.ModuleType(name[:-3])
    load(name, module)
load(last, sys.modules["__main__"])
"""


class DockerExecutor(Pool):
    """Runs programs in ``workers`` containers, spread over ``hosts``; a context manager."""

    name = "docker"

    def __init__(self, workers: int, hosts: Sequence[str] = (), image: str = IMAGE) -> None:
        """Start the workers.

        ``hosts`` are URLs as in ``DOCKER_HOST`` (``unix:///var/run/docker.sock``, ``ssh://user@host``,
        ``tcp://host:2376``); none means the one that the environment names. A host that goes away later
        leaves its work to the others. Raises :class:`~archer.errors.MissingError` for a host that does
        not answer or has no such image, :class:`~archer.errors.SandboxError` where the guest does not start.
        """
        self._limits = default_limits()
        names = tuple(hosts) or ("",)
        pythons = {_check(host, image) for host in names}
        turn = itertools.cycle(range(len(names)))

        def spawn() -> Guest:
            first = next(turn)
            return _spawn([*names[first:], *names[:first]], image)

        super().__init__(spawn, workers, ", ".join(sorted(pythons)))

    def execute(self, jobs: Iterable[ProgramJob]) -> Iterator[tuple[int, Outcome]]:
        """As :meth:`Pool.execute`. Raises UserError for a job with wider limits than the containers have."""
        return super().execute(map(self._within, jobs))

    def _within(self, job: ProgramJob) -> ProgramJob:
        for key in ("memory_bytes", "processes"):
            most = getattr(self._limits, key)
            if getattr(job.limits, key) > most:
                raise UserError(
                    f"sandbox: docker: a job's limit of {key} {getattr(job.limits, key)} is above its containers' "
                    f"{most}; raise it in sandbox/limits.yaml, of which containers are made"
                )
        return job


def connect(host: str) -> docker.DockerClient:
    """Return a client of a Docker host, of the environment's for an empty name. Raises MissingError."""
    try:
        client = _client(host)
        with contextlib.ExitStack() as stack:
            stack.callback(client.close)
            client.ping()
            stack.pop_all()
    except FAILED as error:
        raise MissingError(
            f"sandbox: docker: the Docker host {host or 'that DOCKER_HOST or the default socket names'} does not "
            f"answer ({error}); start it (`systemctl start docker`), install it (`apt-get install docker.io`), or name "
            "another one in `reward.docker_hosts`"
        ) from error
    return client


def _client(host: str) -> docker.DockerClient:
    return docker.DockerClient(base_url=host) if host else docker.from_env()


def _check(host: str, image: str) -> str:
    """Try a Docker host and return the version of Python in its image."""
    name = host or "(default)"
    with contextlib.closing(connect(host)) as client:
        try:
            client.images.get(image)
        except ImageNotFound as error:
            raise MissingError(
                f"sandbox: docker: the Docker host {name} has no image {image!r}; build it with "
                "`archer sandbox image`, or where there is no registry with `archer sandbox image --root FOLDER`"
            ) from error
        except FAILED as error:
            raise SandboxError(f"sandbox: docker: the Docker host {name} does not tell its images: {error}") from error
    try:
        guest = _spawn([host], image)
    except GuestLost as lost:
        raise SandboxError(f"sandbox: docker: the guest in a fresh container {lost}") from None
    guest.stop()
    return guest.python


def left_over(hosts: Sequence[str]) -> int:
    """Count the containers of this process's that Docker hosts have."""
    found = 0
    for host in tuple(hosts) or ("",):
        with contextlib.closing(connect(host)) as client:
            found += len(client.api.containers(all=True, filters={"label": f"{LABEL}={os.getpid()}"}))
    return found


def _spawn(hosts: Sequence[str], image: str) -> Guest:
    """Start a guest on the first Docker host that can. Raises GuestLost with the reasons of all."""
    reasons = []
    for host in hosts:
        try:
            return Guest(ContainerLink(host, image))
        except GuestLost as lost:
            reasons.append(f"{host or 'the default Docker host'}: {lost}")
    raise GuestLost("; ".join(reasons))


class ContainerLink:
    """The link to a container made for one guest; see :class:`archer.sandbox.guest.Link`."""

    def __init__(self, host: str, image: str) -> None:
        """Create, attach, start, and send the guest. Raises :class:`~archer.sandbox.guest.GuestLost`."""
        self._buffer, self._words = bytearray(), bytearray()
        self._stream = self._left = 0  # of Docker's frame under way: which stream, how many bytes still
        self.id = ""
        with contextlib.ExitStack() as stack:
            stack.callback(self.end)
            try:
                self._client = _client(host)
                api = self._client.api
                self.id = api.create_container(**_options(api, image, default_limits()))["Id"]
                attach = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
                self._response = api.attach_socket(self.id, attach)
                self._socket: socket.socket = getattr(self._response, "_sock", self._response)
                api.start(self.id)
                files = json.dumps({name: (suite("sandbox") / name).read_text() for name in GUEST_FILES}).encode()
                self.write(len(files).to_bytes(4, "big") + files, time.monotonic() + api.timeout)
            except FAILED as error:
                raise GuestLost(f"did not start: {error}") from None
            stack.pop_all()

    def write(self, data: bytes, deadline: float) -> None:
        """Send all of ``data``."""
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        self._socket.sendall(data)

    def read_into(self, view: memoryview, deadline: float) -> int:
        """Receive bytes into ``view``; return how many, 0 at the end. Standard error is collected for :meth:`words`."""
        while True:
            if not self._left and len(self._buffer) >= 8:
                self._stream, self._left = self._buffer[0], int.from_bytes(self._buffer[4:8], "big")
                del self._buffer[:8]
            size = min(self._left, len(self._buffer))
            if self._stream == STDOUT and size:
                size = min(size, len(view))
                view[:size] = self._buffer[:size]
            elif self._stream == STDERR:
                self._words += self._buffer[:size]
            del self._buffer[:size]
            self._left -= size
            if self._stream == STDOUT and size:
                return size
            if not size and not self._fill(deadline):
                return 0

    def _fill(self, deadline: float) -> int:
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        chunk = self._socket.recv(2**18)
        self._buffer += chunk
        return len(chunk)

    def interrupt(self) -> None:
        """Make a waiting read end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def words(self) -> str:
        """Return the guest's standard error."""
        with contextlib.suppress(OSError):
            self.read_into(memoryview(bytearray(2**16)), time.monotonic() + 0.2)
        return self._words.decode(errors="replace")

    def end(self) -> None:
        """Kill and remove the container; a Docker host that is gone took it along."""
        for name in ("_socket", "_response"):
            if hasattr(self, name):
                with contextlib.suppress(OSError):
                    getattr(self, name).close()
        if hasattr(self, "_client"):
            if self.id:
                with contextlib.suppress(NotFound, APIError, *FAILED):  # APIError: it is being removed already
                    self._client.api.remove_container(self.id, force=True, v=True)
            self._client.close()


def _options(api: docker.APIClient, image: str, limits: Limits) -> dict[str, Any]:
    """Return the arguments of ``create_container`` for a hardened container."""
    memory = limits.memory_bytes + SPARE_BYTES
    mount = f"rw,nosuid,nodev,noexec,mode=0700,uid={NOBODY},gid={NOBODY}"
    host = api.create_host_config(
        network_mode="none", read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges"], ipc_mode="private",
        mem_limit=memory, memswap_limit=memory, pids_limit=limits.processes + SPARE_PROCESSES, auto_remove=True,
        init=False, tmpfs={folder: f"{mount},size={size}" for folder, size in FOLDERS.items()},
        ulimits=[docker.types.Ulimit(name="core", soft=0, hard=0)], log_config={"Type": "none"},
    )  # fmt: skip
    host["ReadonlyPaths"] = ["/proc/sysrq-trigger", "/dev"]  # a look at a folder that may be written to leaves its time
    host["MaskedPaths"] = [*HIDDEN_FOLDERS, *HIDDEN_FILES, "/sys"]  # /sys/fs/cgroup counts what a container has used
    return {
        "image": image, "host_config": host, "user": f"{NOBODY}:{NOBODY}", "hostname": "sandbox", "working_dir": "/tmp",
        # Docker closes the container's input when our connection ends: so nothing outlives a killed host.
        "stdin_open": True, "detach": False, "network_disabled": True, "environment": ENVIRONMENT,
        "labels": {LABEL: str(os.getpid())}, "entrypoint": ["python3", *PYTHON_FLAGS, "-c", START],
        "command": ["/packages", "0", *FOLDERS],
    }  # fmt: skip
