"""Sending weights by vLLM's four transfer calls, within a deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch

from archer.engines.base import Weights
from archer.errors import EngineError, first_line


class TransferClient(Protocol):
    """The four calls, to one engine or several; ``at`` is the latest call, ``label`` the weights' version label."""

    name: str
    label: str

    @property
    def at(self) -> str: ...
    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...
    def start_weight_update(self) -> None: ...
    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None: ...
    def finish_weight_update(self, weight_version: str | None = None) -> None: ...


class WeightSource(Protocol):
    """The weights of a load, as the trainer's side reads them on ``device``."""

    device: torch.device
    weights: Weights | None


class WeightTransfer:
    """Sends weights, load after load, over one connection to vLLM that ``connect`` opens.

    ``seconds`` bounds a whole load. A thread that hangs past it (in NCCL, after a peer died) is abandoned.
    """

    def __init__(
        self,
        connect: Callable[[TransferClient, WeightSource], Any],
        client: TransferClient,
        source: WeightSource,
        seconds: float,
    ) -> None:
        self.connect, self.client, self.source, self.seconds = connect, client, source, seconds
        self.trainer: Any = None

    def send(self, weights: Weights) -> None:
        """Send every weight. Raises EngineError if a call fails or the deadline passes."""
        self.source.weights = weights
        failed: list[BaseException] = []
        thread = threading.Thread(target=self._send, args=[failed], daemon=True, name="weights")
        thread.start()
        thread.join(self.seconds)
        if thread.is_alive():
            raise EngineError(self._says(f"no end after {self.seconds:.0f} s"))
        if failed:
            error = failed[0]
            if isinstance(error, EngineError):
                raise error
            raise EngineError(self._says(first_line(error))) from error

    def _says(self, why: str) -> str:
        return f"weights to {self.client.name}: {self.client.at or 'connecting'}: {why}"

    def _send(self, failed: list[BaseException]) -> None:
        try:
            if self.source.device.type == "cuda":
                torch.cuda.set_device(self.source.device)
            with torch.no_grad():
                if self.trainer is None:
                    self.trainer = self.connect(self.client, self.source)
                self.trainer.send_weights()
        except BaseException as error:
            failed.append(error)
