"""The trainer's side of vLLM's weight transfer between GPUs. Needs the engines' version of vLLM installed here.

``ipc`` shares GPU memory with an engine on the same GPU, ``nccl`` broadcasts to engines on others. Both make the four
calls of the protocol through the given client: init once, then start, update and finish for each load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from vllm.distributed.weight_transfer import ParamMeta, WeightSource, WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from archer.engines.base import Weights
from archer.engines.vllm.transfer import WeightTransfer


class PolicySource(WeightSource):  # type: ignore[misc]
    """The policy's weights for vLLM's trainer side: in the engine's dtype, on this process's device."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self.weights: Weights | None = None
        self._metadata: list[ParamMeta] | None = None

    def metadata(self) -> list[ParamMeta]:
        """Return names, dtypes and shapes; the first call gathers every weight once."""
        if self._metadata is None:
            self._metadata = [ParamMeta(name, self.dtype, tuple(tensor.shape)) for name, tensor in self._read()]
        return self._metadata

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight by name, gathered."""
        for name, tensor in self._read():
            yield name, tensor.detach().to(self.device, self.dtype)

    def _read(self) -> Iterator[tuple[str, Tensor]]:
        if self.weights is None:
            raise AssertionError("no weights to send")
        return self.weights()


def by_ipc(client: Any, dtype: str, rank: int, seconds: float) -> WeightTransfer:
    """Return the transfer to an engine on this process's GPU; ``rank`` 0 makes the calls."""
    return WeightTransfer(
        partial(connect, lambda: IPCTrainerInitInfo(packed=True, rank=rank)), client, source_of(dtype), seconds
    )


def by_nccl(
    client: Any, dtype: str, rank: int, seconds: float, place: Callable[[], tuple[str, int, int]]
) -> WeightTransfer:
    """Return the transfer to engines on other GPUs; ``place`` returns the address, port and number of processes."""

    def info() -> NCCLTrainerInitInfo:
        address, port, world = place()
        return NCCLTrainerInitInfo(master_address=address, master_port=port, world_size=world, rank=rank)

    return WeightTransfer(partial(connect, info), client, source_of(dtype), seconds)


def connect(info: Callable[[], Any], client: Any, source: Any) -> Any:
    """Return vLLM's trainer side after it connected."""
    return WeightTransferTrainerFactory.trainer_init(info(), client=client, source=source)


def source_of(dtype: str) -> PolicySource:
    """Return the source for an engine that computes in ``dtype``."""
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    return PolicySource(getattr(torch, dtype), device)
