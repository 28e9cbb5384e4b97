"""Metrics for TensorBoard and Weights & Biases, by their own packages; ``metrics.jsonl`` is written always."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from archer.errors import MissingError
from archer.types import Json


class Sink(Protocol):
    """Takes the metrics of each step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send one step's metrics."""
        ...


class TensorBoard:
    """Event files under ``tensorboard/`` of the run folder."""

    def __init__(self, folder: Path, manifest: Mapping[str, Json], stack: ExitStack) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingError("log: tensorboard needs `pip install 'archer-rlvr[tensorboard]'`") from error
        self.writer = SummaryWriter(str(folder / "tensorboard"))
        stack.callback(self.writer.close)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one scalar a metric; a step redone after a kill overwrites its point."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)


class Wandb:
    """A Weights & Biases run, offline where WANDB_MODE says so; its id is the folder's, so that it goes on."""

    def __init__(self, folder: Path, manifest: Mapping[str, Json], stack: ExitStack) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingError("log: wandb needs `pip install 'archer-rlvr[wandb]'`") from error
        name = f"{manifest['algorithm']}-{manifest['seed']}-{manifest['recipe_digest']}"
        self.run = wandb.init(
            project="archer", name=name, id=name, resume="allow", dir=str(folder), config=dict(manifest)
        )
        stack.callback(self.run.finish)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send one step."""
        self.run.log(dict(metrics), step=step)


SINKS: dict[str, Callable[[Path, Mapping[str, Json], ExitStack], Sink]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
}


def open_sinks(names: Sequence[str], folder: Path, manifest: Mapping[str, Json], stack: ExitStack) -> list[Sink]:
    """Open the sinks a recipe names; they close with ``stack``. Raises MissingError without the package."""
    return [SINKS[name](folder, manifest, stack) for name in names]
