"""Version labels of weights on their way to an engine, and the files that carry them without a GPU."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from archer.engines.base import Weights

FILE_BYTES = 2 << 30  # most bytes of weights in one file
RUN = uuid.uuid4().hex[:8]  # distinguishes the same version of two runs


def label_of(version: int) -> str:
    """Return the label of the weights after ``version`` training steps of this run."""
    return f"{RUN}-{version}"


@contextmanager
def weight_files(weights: Weights, where: str = "") -> Iterator[Path]:
    """Write weights into a temporary folder of safetensors files, in the folder ``where``; yield the folder."""
    with tempfile.TemporaryDirectory(prefix="archer-weights-", dir=where or None) as folder:
        part: dict[str, Tensor] = {}
        files = 0
        for name, tensor in weights():
            part[name] = tensor.detach().cpu().contiguous()
            if sum(weight.nbytes for weight in part.values()) >= FILE_BYTES:
                save_file(part, Path(folder) / f"{files:05d}.safetensors")
                part, files = {}, files + 1
        if part:
            save_file(part, Path(folder) / f"{files:05d}.safetensors")
        yield Path(folder)
