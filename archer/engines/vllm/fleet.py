"""Calls to all servers at once, vLLM's four weight transfer calls included."""

from __future__ import annotations

import base64
import pickle
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any, TypeVar
from urllib.parse import urlsplit

from archer.engines.vllm.control import ServerControl
from archer.types import Json

T = TypeVar("T")


class ServerFleet:
    """The servers of a run, as the client of vLLM's weight transfer. A call fails with the first server that fails.

    ``label`` is the version label of the weights being sent.
    """

    def __init__(self, servers: Sequence[ServerControl]) -> None:
        self.servers = list(servers)
        self.name = ", ".join(server.url for server in servers)
        self.label = ""

    @property
    def at(self) -> str:
        """The latest calls, for errors."""
        return "; ".join(sorted({server.at for server in self.servers}))

    @property
    def world(self) -> int:
        """The number of worker processes of all servers."""
        return sum(server.world for server in self.servers)

    def each(self, call: Callable[[ServerControl], T]) -> list[T]:
        """Run ``call`` for every server at once; return the results. Raises the first server's error."""
        with ThreadPoolExecutor(len(self.servers)) as pool:
            return list(pool.map(call, self.servers))

    def meeting(self) -> tuple[str, int, int]:
        """Return the NCCL rendezvous: the trainer's address as servers see it, a free port, the number of processes."""
        parts = urlsplit(self.servers[0].url)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((parts.hostname or "localhost", parts.port or 80))  # sends nothing
            address = str(probe.getsockname()[0])
        with socket.socket() as free:
            free.bind(("", 0))
            return address, int(free.getsockname()[1]), 1 + self.world

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Set up the transfer; in one NCCL group, each server's ranks follow those of the servers before it."""
        before = dict(
            zip(map(id, self.servers), accumulate([0, *(server.world for server in self.servers)]), strict=False)
        )

        def init(server: ServerControl) -> None:
            info = dict(init_info)
            if "rank_offset" in info:
                info["rank_offset"] += before[id(server)]
            server.post("/init_weight_transfer_engine", {"init_info": info})

        self.each(init)

    def start_weight_update(self) -> None:
        """Start an update."""
        self.each(lambda server: server.worker("archer_moved"))
        self.each(lambda server: server.post("/start_weight_update"))

    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Send the description of the weights, or the handles to them."""
        body = {"update_info": sendable(update_info)}
        self.each(lambda server: server.post("/update_weights", body))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Finish the update, and label the weights."""
        body = {"weight_version": weight_version or self.label}
        self.each(lambda server: server.post("/finish_weight_update", body))


def sendable(info: Any) -> Json:
    """Return an update's description as JSON, with handles of GPU memory pickled as vLLM expects."""
    if isinstance(info, list):
        return [sendable(entry) for entry in info]
    if info.get("ipc_handles") is None:
        return info
    rest = {name: value for name, value in info.items() if name != "ipc_handles"}
    return {**rest, "ipc_handles_pickled": base64.b64encode(pickle.dumps(info["ipc_handles"])).decode()}
