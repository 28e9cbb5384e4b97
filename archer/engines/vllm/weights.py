"""What weights are called on their way to vLLM, and the files they travel in where there is no GPU."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from archer.engines.base import Weights

FILE_BYTES = 2 << 30  # of weights in one file
RUN = uuid.uuid4().hex[:8]  # so that weights of another run of the same version are told apart


def label_of(version: int) -> str:
    """Return what an engine is told that its weights are called."""
    return f"{RUN}-{version}"


@contextmanager
def written(weights: Weights) -> Iterator[Path]:
    """Write weights into a folder that is there while the context lasts."""
    with tempfile.TemporaryDirectory(prefix="archer-weights-") as folder:
        part: dict[str, Tensor] = {}
        files = 0
        for name, tensor in weights():
            part[name] = tensor.detach().cpu().contiguous()
            if sum(one.nbytes for one in part.values()) >= FILE_BYTES:
                save_file(part, Path(folder) / f"{files:05d}.safetensors")
                part, files = {}, files + 1
        if part:
            save_file(part, Path(folder) / f"{files:05d}.safetensors")
        yield Path(folder)
