"""Any number of `vllm serve` replicas as one backend; :func:`~archer.engines.vllm.command.serve_command` starts one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from archer.distributed import Ranks
from archer.engines.base import Weights
from archer.engines.servers.call import EngineCall, say
from archer.engines.servers.pool import ServerPool
from archer.engines.servers.weights import label_of, weight_files
from archer.engines.vllm.checks import installed_vllm
from archer.engines.vllm.command import Sync
from archer.engines.vllm.control import ServerControl
from archer.engines.vllm.fleet import ServerFleet
from archer.engines.vllm.speech import VllmSpeech
from archer.errors import ModelError, UserError
from archer.types import Json, Rollout


class ServersBackend:
    """A :class:`~archer.engines.servers.call.EngineBackend` that all ranks share; rank 0 alone sends the weights.

    - ``room``: most requests that this rank runs at a time at each server
    - ``seconds``: deadline of a call
    - ``sync``: how servers get new weights
    - ``digest``: returns the sha256 of the weights that the servers must have before the first :meth:`load`
    """

    def __init__(
        self, fleet: ServerFleet, ranks: Ranks, room: int, seconds: float, sync: Sync, digest: Callable[[], str]
    ) -> None:  # fmt: skip
        self.fleet, self.ranks, self.room, self.seconds, self.sync = fleet, ranks, room, seconds, sync
        self.digest = digest
        self.label = ""
        self.transfer: Any = None if sync == "reload" else self._open_transfer()
        self.pristine = False
        if ranks.main:
            how = "reload of a checkpoint" if sync == "reload" else sync
            say(f"vLLM at {fleet.name}: weights by {how}, up to {room} requests each from a rank")

    def draw(self, call: EngineCall) -> Iterator[Rollout]:
        """Sample on all servers; see :class:`archer.engines.servers.call.EngineBackend`."""
        if not self.label and not self.pristine:
            self.fleet.each(self._unmoved)
            self.pristine = True
        yield from ServerPool(self.fleet.servers, VllmSpeech(), self.room, self.seconds, self.label).run(call)

    def load(self, version: int, weights: Weights) -> None:
        """Send the weights to all servers, from rank 0; the others wait."""
        label = self.ranks.broadcast("name of the weights", label_of(version))
        self.label = self.fleet.label = label  # set first, so that weights of a failed transfer are never used
        if self.transfer is not None:
            self.transfer.send(weights)
        elif self.ranks.main:
            with weight_files(weights) as folder:
                self.fleet.each(lambda server: server.worker("archer_reload", folder=str(folder)))
                self.fleet.each(lambda server: server.post("/update_weight_version", {"new_version": label}))
        else:
            for _ in weights():  # a call of all ranks
                pass
        if self.ranks.main:
            self.fleet.each(lambda server: server.post("/reset_prefix_cache"))
        self.ranks.barrier("weights loaded by the servers")

    def rest(self) -> None:
        """Do nothing: servers have their own GPUs."""

    def describe(self) -> Mapping[str, Json]:
        """Return the properties of each server, by URL."""
        return {server.url: {"version": server.version, **server.about} for server in self.fleet.servers}

    def close(self) -> None:
        """Do nothing: the servers were started elsewhere."""

    def _unmoved(self, server: ServerControl) -> None:
        """Raise ModelError unless a server has the weights of the recipe's model."""
        if server.worker("archer_describe")[0]["moved"]:
            raise ModelError(f"{server.url}: has the weights of a run that trained with it; start it again")
        served, own = server.worker("archer_weights")[0][0], self.digest()
        if served != own:
            raise ModelError(
                f"{server.url}: serves {server.about['model']}, whose weights {served[:12]} are not those of "
                f"model.path ({own[:12]})"
            )

    def _open_transfer(self) -> Any:
        from archer.engines.vllm.trainer import by_ipc, by_nccl

        dtype = str(self.fleet.servers[0].about["dtype"])
        if self.sync == "ipc":
            return by_ipc(self.fleet, dtype, self.ranks.rank, self.seconds)
        return by_nccl(self.fleet, dtype, self.ranks.rank, self.seconds, self.fleet.meeting)


def choose_sync(asked: str, servers: Sequence[ServerControl], gpus: Sequence[str]) -> Sync:
    """Return how servers get weights: ``asked``, or for "auto" the fastest way. ``gpus`` are the trainer's UUIDs.

    Raises UserError if ``asked`` is impossible: without GPUs on both sides only "reload" works.
    """
    server_gpus = [str(server.about["gpu"]) for server in servers]
    able = bool(gpus) and all(server_gpus)
    if asked == "reload" or (asked == "auto" and not able):
        return "reload"
    if not able:
        raise UserError(
            f"rollout.vllm.sync: {asked}: needs a GPU here and at every server (here: {', '.join(gpus) or 'none'}; "
            f"theirs: {', '.join(gpu or 'none' for gpu in server_gpus)}); leave it out, or use reload"
        )
    same = all(gpu in gpus for gpu in server_gpus)
    if asked == "ipc" and not same:
        raise UserError("rollout.vllm.sync: ipc needs every server on a GPU of the trainer; use nccl")
    return "ipc" if asked == "ipc" or (asked == "auto" and same) else "nccl"


def refuse_unable(sync: Sync, servers: Sequence[ServerControl], command: str) -> None:
    """Raise UserError if a server was started for another ``sync``, or has another vLLM version."""
    if sync == "reload":
        return
    own = installed_vllm()
    for server in servers:
        if server.about["transfer"] != sync:
            raise UserError(
                f"rollout.vllm.sync: {sync}: {server.url} was started for {server.about['transfer'] or 'reload'}; "
                f"start it: {command}"
            )
        if server.version != own:
            raise UserError(
                f"rollout.vllm.sync: {sync}: {server.url} has vLLM {server.version}, here is {own}: install the same, "
                "or use reload"
            )
