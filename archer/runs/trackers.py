"""Metrics for TensorBoard and Weights & Biases, in addition to ``metrics.jsonl``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from archer.errors import MissingError, UserError
from archer.types import Json


class Tracker(Protocol):
    """Takes the metrics of each step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send one step's metrics."""
        ...


class TensorBoardTracker:
    """Writes event files to ``tensorboard/`` in the run folder."""

    def __init__(self, folder: Path, manifest: Mapping[str, Json], stack: ExitStack) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))
        stack.callback(self.writer.close)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one scalar per metric; a step redone after a kill writes the same point again."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)


class WandbTracker:
    """A Weights & Biases run, offline if WANDB_MODE says so; its id depends on the folder, so it resumes."""

    def __init__(self, folder: Path, manifest: Mapping[str, Json], stack: ExitStack) -> None:
        import wandb

        name = f"{manifest['algorithm']}-{manifest['seed']}-{manifest['recipe_digest']}"
        folder_id = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
        try:
            self.run = wandb.init(
                project="archer",
                name=name,
                id=f"{name}-{folder_id}",
                resume="allow",
                dir=str(folder),
                config=dict(manifest),
            )
        except wandb.errors.Error as error:
            raise UserError(f"log: wandb: {error}; log in, or set WANDB_MODE=offline") from error
        stack.callback(self.run.finish)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send one step."""
        self.run.log(dict(metrics), step=step)


TRACKERS: dict[str, Callable[[Path, Mapping[str, Json], ExitStack], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
}


def check_trackers(names: Sequence[str]) -> None:
    """Raise MissingError for a tracker whose package is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise MissingError(f"log: {name} needs `pip install 'archer-rlvr[{name}]'`")


def open_trackers(names: Sequence[str], folder: Path, manifest: Mapping[str, Json], stack: ExitStack) -> list[Tracker]:
    """Open the trackers that a recipe names; they close with ``stack``."""
    return [TRACKERS[name](folder, manifest, stack) for name in names]
