"""Any number of SGLang servers as one backend, which get their weights as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ClassVar, TypeVar

from archer.distributed import Ranks
from archer.engines.base import Weights
from archer.engines.servers.call import EngineCall, say
from archer.engines.servers.client import ServerClient
from archer.engines.servers.pool import ServerPool
from archer.engines.servers.weights import RUN, label_of, weight_files
from archer.engines.sglang.speech import SglangSpeech
from archer.errors import EngineError
from archer.types import Json, Rollout

T = TypeVar("T")


class SglangServer(ServerClient):
    """Calls to one SGLang server, with the key for its ``--api-key`` if SGLANG_API_KEY is set."""

    key: ClassVar[str] = "SGLANG_API_KEY"

    def describe(self) -> dict[str, Json]:
        """Return what the server says of its model. Raises EngineError."""
        about = self.get("/get_model_info")
        if not isinstance(about, dict) or "model_path" not in about:
            raise EngineError(f"{self.url}: GET /get_model_info: is no SGLang server's: {str(about)[:100]!r}")
        return about

    def reload(self, folder: str, label: str) -> None:
        """Load the weights in a folder, or of a hub's model, and label them. Raises EngineError if it cannot."""
        self.post("/pause_generation", {})
        try:
            body = {"model_path": folder, "weight_version": label, "flush_cache": True}
            reply = self.post("/update_weights_from_disk", body)
        except EngineError:
            with suppress(EngineError):
                self.post("/continue_generation", {})
            raise
        self.post("/continue_generation", {})
        if not isinstance(reply, dict) or reply.get("success") is not True:
            told = reply.get("message") if isinstance(reply, dict) else reply
            raise EngineError(
                f"{self.url}: POST /update_weights_from_disk: {told}; the server must see {folder} (a run writes "
                "its weights to rollout.sglang.folder)"
            )


class SglangServers:
    """An :class:`~archer.engines.servers.call.EngineBackend` that all ranks share; rank 0 alone sends the weights.

    - ``room``: most requests that this rank runs at a time at each server
    - ``seconds``: deadline of a call, and of a response
    - ``folder``: where weights are written for the servers to read ("": the folder of temporary files)
    - ``own``: returns the folder (or hub name) of the weights to sample with before the first :meth:`load`
    """

    def __init__(
        self, servers: Sequence[SglangServer], ranks: Ranks, room: int, folder: str, own: Callable[[], str]
    ) -> None:
        self.servers, self.ranks, self.room, self.folder, self.own = list(servers), ranks, room, folder, own
        self.about = dict(zip((server.url for server in servers), self._each(SglangServer.describe), strict=True))
        self.label = ""
        if ranks.main:
            named = ", ".join(self.about)
            say(f"SGLang at {named}: weights by reload of a checkpoint, up to {room} requests each from a rank")

    def draw(self, call: EngineCall) -> Iterator[Rollout]:
        """Sample on all servers; see :class:`archer.engines.servers.call.EngineBackend`."""
        if not self.label:  # they may have any weights
            self._reload(self.own(), f"{RUN}-model")
        yield from ServerPool(self.servers, SglangSpeech(), self.room, self.servers[0].seconds, self.label).run(call)

    def load(self, version: int, weights: Weights) -> None:
        """Send the weights to all servers, from rank 0; the others wait."""
        label = self.ranks.broadcast("name of the weights", label_of(version))
        self.label = label  # set first, so that weights of a failed transfer are never used
        if self.ranks.main:
            with weight_files(weights, self.folder) as folder:
                self._reload(str(folder), label)
        else:
            for _ in weights():  # a call of all ranks
                pass
        self.ranks.barrier("weights loaded by the servers")

    def rest(self) -> None:
        """Do nothing: servers have their own GPUs."""

    def describe(self) -> Mapping[str, Json]:
        """Return what each server says of its model, by URL."""
        return self.about

    def close(self) -> None:
        """Do nothing: the servers were started elsewhere."""

    def _reload(self, folder: str, label: str) -> None:
        self.label = label
        self._each(lambda server: server.reload(folder, label))

    def _each(self, call: Callable[[SglangServer], T]) -> list[T]:
        """Run ``call`` for every server at once; return the results. Raises the first server's error."""
        with ThreadPoolExecutor(len(self.servers)) as pool:
            return list(pool.map(call, self.servers))
