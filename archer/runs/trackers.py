"""Metrics for TensorBoard, Weights & Biases or a tracker of one's own, in addition to ``metrics.jsonl``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from archer.errors import MissingError, UserError
from archer.parts import find_part
from archer.types import Json


class Tracker(Protocol):
    """Takes the metrics of each step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send one step's metrics. A step redone after a kill is sent again."""
        ...

    def close(self) -> None:
        """Called once, when the run ends or fails."""
        ...


OpenTracker = Callable[[Path, Mapping[str, Json]], Tracker]  # of the run folder and its manifest


class TensorBoardTracker:
    """Writes event files to ``tensorboard/`` in the run folder."""

    def __init__(self, folder: Path, manifest: Mapping[str, Json]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one scalar per metric; a step redone after a kill writes the same point again."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


class WandbTracker:
    """A Weights & Biases run, offline if WANDB_MODE says so; its id depends on the folder, so it resumes."""

    def __init__(self, folder: Path, manifest: Mapping[str, Json]) -> None:
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

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send one step."""
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


TRACKERS: dict[str, OpenTracker] = {"tensorboard": TensorBoardTracker, "wandb": WandbTracker}  # the names of extras too


def check_trackers(names: Sequence[str]) -> None:
    """Raise UserError for a tracker that is none, MissingError for one whose package is not installed."""
    for name in names:
        if name in TRACKERS and find_spec(name) is None:
            raise MissingError(f"log: {name} needs `pip install 'archer-rlvr[{name}]'`")
        if not callable(find_part("trackers", name, TRACKERS)):
            raise UserError(f"log: {name}: expected what is called with a folder and a manifest and gives a tracker")


def open_trackers(names: Sequence[str], folder: Path, manifest: Mapping[str, Json], stack: ExitStack) -> list[Tracker]:
    """Open the trackers that a recipe names; they close with ``stack``."""
    trackers = []
    for name in names:
        tracker = find_part("trackers", name, TRACKERS)(folder, manifest)
        if not callable(getattr(tracker, "log", None)) or not callable(getattr(tracker, "close", None)):
            raise UserError(f"log: {name}: gave {tracker!r:.80}, which lacks log(step, metrics) or close()")
        stack.callback(tracker.close)
        trackers.append(tracker)
    return trackers
