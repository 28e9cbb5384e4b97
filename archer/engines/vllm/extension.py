"""Methods that Archer adds to a vLLM worker: describing itself, and reloading weights.

vLLM's CPU build multiplies by copies of the weights that it packs when it loads them. Its own reload repacks what it
loads, but not an LM head tied to the embedding, whose packed copy would keep the old weights: it is repacked here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from archer.engines.vllm.checks import SHAPE, vocabulary_digest
from archer.models.loading import digest_of, load_tokenizer, on_disk
from archer.recipe.sections import ModelSection
from archer.types import Json

NAME = f"{__name__}.Extension"


class WorkerExtension:
    """Mixed into vLLM's worker by ``--worker-extension-cls``; its methods can be called remotely."""

    vllm_config: Any
    model_runner: Any
    device: torch.device
    archer_loaded = False

    def archer_describe(self) -> dict[str, Json]:
        """Return the worker's model, vocabulary, log-prob mode, and the device and machine it runs on."""
        config = self.vllm_config.model_config
        transfer = self.vllm_config.weight_transfer_config
        cuda = self.device.type == "cuda"
        return {
            "model": str(config.model), "context": int(config.max_model_len),
            "shape": {name: getattr(config.hf_text_config, name, None) for name in SHAPE},
            "vocabulary": vocabulary_digest(load_tokenizer(self._archer_model())), "dtype": str(config.dtype)[6:],
            "logprobs": str(config.logprobs_mode), "slots": int(self.vllm_config.scheduler_config.max_num_seqs),
            "transfer": transfer.backend if transfer else "", "device": self.device.type,
            "gpu": str(torch.cuda.get_device_properties(self.device).uuid) if cuda else "",
            "machine": socket.gethostname(), "moved": self.archer_loaded,
        }  # fmt: skip

    def archer_weights(self) -> list[str]:
        """Return the sha256 of the weights on disk that the worker started with."""
        return [digest_of(on_disk(self._archer_model()))]

    def archer_moved(self) -> None:
        """Record that the weights are no longer those on disk."""
        self.archer_loaded = True

    def archer_reload(self, folder: str) -> None:
        """Load the weights in ``folder``, safetensors by Hugging Face names. Raises FileNotFoundError without any."""
        files = sorted(Path(folder).glob("*.safetensors"))
        if not files:
            raise FileNotFoundError(f"{folder}: no weights there, as seen from {socket.gethostname()}")
        self.archer_loaded = True
        self.reload_weights(weights_iterator=read_all(files))  # type: ignore[attr-defined]
        repack(self.model_runner.get_model())

    def _archer_model(self) -> ModelSection:
        config = self.vllm_config.model_config
        return ModelSection(str(config.model), config.revision)


def read_all(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of the files."""
    for file in files:
        yield from load_file(file).items()


def repack(model: torch.nn.Module) -> None:
    """Repack the weights of every layer that holds both plain weights and a packed copy."""
    for layer in model.modules():
        packed: Any = getattr(layer, "cpu_linear", None)
        weight: Any = getattr(layer, "weight", None)
        if packed is not None and weight is not None and weight.numel():
            method: Any = layer.quant_method
            method.process_weights_after_loading(layer)
