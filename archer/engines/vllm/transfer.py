"""Sending weights over vLLM's protocol of four calls, within a deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch

from archer.engines.base import Weights
from archer.errors import EngineError, first_line


class TransferClient(Protocol):
    """The four calls, to one engine or several; ``at`` is the one under way, ``label`` what the weights are called."""

    name: str
    label: str

    @property
    def at(self) -> str: ...
    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...
    def start_weight_update(self) -> None: ...
    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None: ...
    def finish_weight_update(self, weight_version: str | None = None) -> None: ...


class WeightSource(Protocol):
    """What the trainer's side reads: the weights of a load, on ``device``."""

    device: torch.device
    weights: Weights | None


class WeightTransfer:
    """Sends weights, again and again, over one connection that ``connect`` makes: vLLM's trainer side.

    ``seconds`` bounds a whole load. Past it the thread that hangs (in NCCL, where a peer died) is left behind.
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
        """Send every weight. Raises EngineError where a call fails or the time is over."""
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
