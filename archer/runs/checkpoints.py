"""Checkpoints: Hugging Face folders with the trainer's state beside the weights, written aside and renamed.

The rename is the moment a step is done: killed before it, a run redoes the step; killed after, it goes on
with the next. Weights, optimizer and stream position are all there is to a run's state, so what follows is
bitwise the same on the same machine with as many ranks, and the same but for rounding with another number.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from archer.distributed import Ranks
from archer.errors import RunFolderError
from archer.trainer import Trainer
from archer.types import Json

TRAINER = "trainer.json"  # the trainer's state, and the size of every other file


def save_checkpoint(
    folder: Path,
    step: int,
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    state: Mapping[str, Json],
    keep: int,
    ranks: Ranks,
) -> None:
    """Write the checkpoint after ``step`` steps and delete all but the newest ``keep``. A call of all ranks.

    ``state`` is what the trainer needs to go on. Raises RunFolderError on every rank when the disk is full; the
    checkpoints before it stay.
    """
    aside = folder / f".step-{step:06d}.tmp"

    def prepare() -> None:
        if ranks.main:
            clear(folder)
            aside.mkdir(parents=True)

    def write() -> None:
        trainer.write(aside)
        if ranks.main:
            tokenizer.save_pretrained(aside)
            finish(aside, folder / f"step-{step:06d}", state)

    # Each part ends on every rank before the next begins: in `policy.write` all contribute, or none does.
    fault = attempt(prepare, ranks) or attempt(write, ranks)
    if fault:
        if ranks.main:
            shutil.rmtree(aside, ignore_errors=True)
        raise RunFolderError(
            f"{folder}: the checkpoint of step {step} could not be written ({fault}); free some space and run the "
            "same command again, it goes on from the last checkpoint"
        )
    if ranks.main:
        for old in complete_checkpoints(folder)[:-keep]:
            shutil.rmtree(old)


def attempt(part: Callable[[], None], ranks: Ranks) -> str:
    """Run a part of a save; return on every rank what went wrong on rank 0, "" where nothing did."""
    fault = ""
    try:
        part()
    except (OSError, RuntimeError, SafetensorError) as error:
        fault = str(error) or type(error).__name__
    return ranks.broadcast("checkpoint", fault)


def clear(folder: Path) -> None:
    """Delete what runs that were killed while they wrote a checkpoint left."""
    for left in folder.glob(".step-*.tmp"):
        shutil.rmtree(left)


def finish(aside: Path, final: Path, state: Mapping[str, Json]) -> None:
    """Add the trainer's state, flush everything to the disk, and rename."""
    sizes = {str(path.relative_to(aside)): path.stat().st_size for path in contents(aside)}
    (aside / TRAINER).write_text(json.dumps({"state": state, "bytes": sizes}))
    for path in aside.rglob("*"):
        sync(path)
    sync(aside)
    if final.exists():  # of a run that went on from an older checkpoint, or had fewer ranks
        shutil.rmtree(final)
    aside.replace(final)
    sync(final.parent)


def contents(folder: Path) -> list[Path]:
    """Return the files of a checkpoint but :data:`TRAINER`."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != TRAINER)


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*"))


def load_checkpoint(path: Path, trainer: Trainer) -> dict[str, Json]:
    """Put a checkpoint into ``trainer`` and return the trainer's state. A call of all ranks, all of which read.

    Raises RunFolderError when a file is missing or cut short, or holds another model.
    """
    state = verify_checkpoint(path)
    try:
        trainer.read(path)
    except (OSError, RuntimeError, SafetensorError, ValueError, KeyError) as error:
        raise damaged(path, str(error)) from error
    return state


def verify_checkpoint(path: Path) -> dict[str, Json]:
    """Return the trainer's state, once every file has the size that it was written with. Raises RunFolderError."""
    try:
        told = json.loads((path / TRAINER).read_text(encoding="utf-8"))
        state, sizes = told["state"], told["bytes"]
    except FileNotFoundError as error:
        raise damaged(path, f"no {TRAINER}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"{TRAINER}: {error}") from error
    for name, size in sizes.items():
        there = (path / name).stat().st_size if (path / name).is_file() else None
        if there != size:
            what = "is missing" if there is None else f"has {there} bytes"
            raise damaged(path, f"{name} {what}, {size} were written")
    return dict(state)


def damaged(path: Path, why: str) -> RunFolderError:
    """Return the error that says what is wrong with a checkpoint."""
    return RunFolderError(f"{path}: damaged checkpoint ({why}); delete it to go on from an older one")


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
