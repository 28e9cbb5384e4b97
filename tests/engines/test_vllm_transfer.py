"""Weights over vLLM's protocol of four calls: in order, to every server, and never waited for past the deadline."""

from __future__ import annotations

import base64
import pickle
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from helpers.vllm_server import Fake, serving

from archer.engines.base import Weights
from archer.engines.vllm.control import ServerControl
from archer.engines.vllm.fleet import ServerFleet, sendable
from archer.engines.vllm.transfer import WeightTransfer
from archer.errors import EngineError

CPU = torch.device("cpu")
CALLS = ["/init_weight_transfer_engine", "/start_weight_update", "/update_weights", "/finish_weight_update"]


@pytest.fixture
def fakes() -> Iterator[list[Fake]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(Fake({"moved": False}))) for _ in range(2)]


@dataclass
class Source:
    device: torch.device
    weights: Weights | None = None


class Trainer:
    """What vLLM's trainer side does: init when made; start, update and finish for each load."""

    def __init__(self, client: ServerFleet, source: Source) -> None:
        self.client, self.source = client, source
        client.init_weight_transfer_engine({"rank_offset": 1, "world_size": client.world + 1})

    def send_weights(self) -> None:
        self.client.start_weight_update()
        assert self.source.weights is not None
        self.client.update_weights({"names": [name for name, _ in self.source.weights()]})
        self.client.finish_weight_update()


def opened(fakes: list[Fake], seconds: float = 5.0) -> tuple[WeightTransfer, ServerFleet]:
    fleet = ServerFleet([ServerControl(fake.url, seconds, world=2) for fake in fakes])
    return WeightTransfer(Trainer, fleet, Source(CPU), 2 * seconds), fleet


def weights() -> Iterator[tuple[str, torch.Tensor]]:
    yield "a.weight", torch.ones(2, 3)
    yield "b", torch.zeros(1)


def test_the_four_calls_reach_every_server_in_order(fakes: list[Fake]) -> None:
    transfer, fleet = opened(fakes)
    for step in (1, 2):
        fleet.label = f"run-{step}"
        transfer.send(weights)
        assert [fake.label for fake in fakes] == [f"run-{step}"] * 2
    load = ["/collective_rpc", *CALLS[1:]]  # the first notes that the weights are no longer those on disk
    for number, fake in enumerate(fakes):
        assert [path for path, _ in fake.calls] == [CALLS[0], *load, *load]
        bodies = dict(fake.calls)
        # Rank 0 is the trainer; each server has two processes.
        assert bodies[CALLS[0]] == {"init_info": {"rank_offset": 1 + 2 * number, "world_size": 5}}
        assert bodies[CALLS[2]] == {"update_info": {"names": ["a.weight", "b"]}}
        assert bodies[CALLS[3]] == {"weight_version": "run-2"}
        assert fake.about["moved"] is True


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("die", "RemoteProtocolError|ReadError"), ("fail", "status 500: .*EngineDeadError"),
        ("nonsense", "no JSON: '<html>log in</html>'"), ("hang", "ReadTimeout"),
    ],
)  # fmt: skip
def test_each_call_that_fails_is_named(fakes: list[Fake], path: str, trouble: str, why: str) -> None:
    transfer, _ = opened(fakes, seconds=1.0)
    fakes[1].troubles[path] = trouble
    with pytest.raises(EngineError, match=rf"^{fakes[1].url}: POST {path}: ({why}).* \(after \d+\.\d of 1 s\)"):
        transfer.send(weights)


def test_a_transfer_that_never_ends_is_left(fakes: list[Fake]) -> None:
    """As a broadcast does whose receiver died."""
    stop = threading.Event()

    class Stuck(Trainer):
        def send_weights(self) -> None:
            self.client.start_weight_update()
            stop.wait()

    fleet = ServerFleet([ServerControl(fakes[0].url, 1.0)])
    with pytest.raises(EngineError, match=rf"weights to {fakes[0].url}: POST /start_weight_update: no end after 1 s"):
        WeightTransfer(Stuck, fleet, Source(CPU), 1.0).send(weights)
    stop.set()


def test_what_breaks_on_our_side_is_an_engine_error_too(fakes: list[Fake]) -> None:
    transfer, _ = opened(fakes)

    def broken() -> Iterator[tuple[str, torch.Tensor]]:
        raise RuntimeError("NCCL error: unhandled system error")
        yield

    with pytest.raises(EngineError, match=r"weights to .*: POST /start_weight_update: NCCL error: unhandled"):
        transfer.send(broken)


def test_servers_meet_the_trainer_at_its_own_address(fakes: list[Fake]) -> None:
    address, port, world = opened(fakes)[1].meeting()
    assert (address, world) == ("127.0.0.1", 5)
    assert 1024 <= port < 65536


def test_handles_of_gpu_memory_travel_pickled() -> None:
    handles = {"GPU-1": (torch.float32, (2, 3), b"handle")}
    info = {"names": ["a"], "ipc_handles": handles, "ipc_handles_pickled": None}
    sent = sendable(info)
    assert sorted(sent) == ["ipc_handles_pickled", "names"]
    assert pickle.loads(base64.b64decode(sent["ipc_handles_pickled"])) == handles
    assert sendable({"names": ["a"]}) == {"names": ["a"]}
    assert [sorted(one) for one in sendable([info, info])] == [["ipc_handles_pickled", "names"]] * 2


@pytest.mark.vllm
def test_vllm_s_own_trainer_side_makes_these_calls(fakes: list[Fake]) -> None:
    """All of it but the broadcast itself, which needs GPUs."""
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerWeightTransferEngine

    from archer.engines.vllm.trainer import PolicySource

    sent: list[tuple[str, torch.dtype, tuple[int, ...]]] = []

    class Broadcastless(NCCLTrainerWeightTransferEngine):
        def _broadcast(self, source: Any, meta: Any) -> None:
            sent.extend((name, one.dtype, tuple(one.shape)) for name, one in self._checked_iter(source, meta))

    def connect(client: Any, source: Any) -> Any:
        client.init_weight_transfer_engine({"rank_offset": 1})
        return Broadcastless(client=client, source=source)

    fleet = ServerFleet([ServerControl(fake.url, 5.0) for fake in fakes])
    fleet.label = "run-1"
    WeightTransfer(connect, fleet, PolicySource(torch.bfloat16, torch.device("cpu")), 10.0).send(weights)
    assert sent == [("a.weight", torch.bfloat16, (2, 3)), ("b", torch.bfloat16, (1,))]
    for fake in fakes:
        assert [path for path, _ in fake.calls] == [CALLS[0], "/collective_rpc", *CALLS[1:]]
        assert dict(fake.calls)[CALLS[2]]["update_info"] == {
            "names": ["a.weight", "b"], "dtype_names": ["bfloat16"] * 2, "shapes": [[2, 3], [1]],
        }  # fmt: skip
        assert fake.label == "run-1"
