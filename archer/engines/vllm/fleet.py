"""Calls to all servers at once, and vLLM's four calls of weight transfer among them."""

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
    """The servers of a run. A call is made of all of them at once, and fails with the first that fails.

    It is the client that vLLM's trainer side asks for. ``label`` is what the weights being sent will be called.
    """

    def __init__(self, servers: Sequence[ServerControl]) -> None:
        self.servers = list(servers)
        self.name = ", ".join(server.url for server in servers)
        self.label = ""

    @property
    def at(self) -> str:
        """The calls under way."""
        return "; ".join(sorted({server.at for server in self.servers}))

    @property
    def world(self) -> int:
        """The processes of all servers."""
        return sum(server.world for server in self.servers)

    def each(self, call: Callable[[ServerControl], T]) -> list[T]:
        """Make a call of every server at once; return what each answers. Raises what the first of them raised."""
        with ThreadPoolExecutor(len(self.servers)) as pool:
            return list(pool.map(call, self.servers))

    def meeting(self) -> tuple[str, int, int]:
        """Return where servers meet the trainer for NCCL: its address as they see it, a free port, processes in all."""
        parts = urlsplit(self.servers[0].url)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((parts.hostname or "localhost", parts.port or 80))  # sends nothing
            address = str(probe.getsockname()[0])
        with socket.socket() as free:
            free.bind(("", 0))
            return address, int(free.getsockname()[1]), 1 + self.world

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Agree on how; where they join one group, each behind those before it."""
        before = dict(zip(map(id, self.servers), accumulate([0, *(one.world for one in self.servers)]), strict=False))

        def init(server: ServerControl) -> None:
            info = dict(init_info)
            if "rank_offset" in info:
                info["rank_offset"] += before[id(server)]
            server.post("/init_weight_transfer_engine", {"init_info": info})

        self.each(init)

    def start_weight_update(self) -> None:
        """Begin."""
        self.each(lambda server: server.worker("archer_moved"))
        self.each(lambda server: server.post("/start_weight_update"))

    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Tell what comes, or where it lies."""
        body = {"update_info": sendable(update_info)}
        self.each(lambda server: server.post("/update_weights", body))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """End, and name the weights."""
        body = {"weight_version": weight_version or self.label}
        self.each(lambda server: server.post("/finish_weight_update", body))


def sendable(info: Any) -> Json:
    """Return an update's description as JSON can carry it: handles of GPU memory pickled, as vLLM reads them."""
    if isinstance(info, list):
        return [sendable(one) for one in info]
    if info.get("ipc_handles") is None:
        return info
    kept = {name: value for name, value in info.items() if name != "ipc_handles"}
    return {**kept, "ipc_handles_pickled": base64.b64encode(pickle.dumps(info["ipc_handles"])).decode()}
