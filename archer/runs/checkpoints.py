"""Checkpoints: Hugging Face folders with the trainer's state, written to a temporary folder and renamed.

The rename completes a step: a run killed before it redoes the step, one killed after it resumes with the next. A run's
state is weights, optimizer and stream cursor, so a resumed run is bitwise the same on the same machine with the same
number of ranks, and the same up to rounding with another number.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from archer.distributed import Ranks
from archer.errors import RunFolderError
from archer.trainer import Trainer

TRAINER = "trainer.json"  # the run's state, and the size of every other file
ARRAYS = "arrays.npz"  # the arrays of the run's state, which trainer.json names by their numbers


def save_checkpoint(
    folder: Path,
    step: int,
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    state: Mapping[str, Any],
    keep: int,
    ranks: Ranks,
) -> None:
    """Write the checkpoint after ``step`` steps and delete all but the newest ``keep``. A call of all ranks.

    ``state`` is the run's state apart from the trainer's: plain values, and arrays. Raises RunFolderError on every
    rank if the disk is full; earlier checkpoints stay.
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

    # Each part ends on every rank before the next begins, so in `trainer.write` all ranks contribute or none.
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
    """Run a part of a save; return rank 0's error message, "" without one, on every rank."""
    fault = ""
    try:
        part()
    except (OSError, RuntimeError, SafetensorError) as error:
        fault = str(error) or type(error).__name__
    return ranks.broadcast("checkpoint", fault)


def clear(folder: Path) -> None:
    """Delete checkpoints that killed runs left unfinished."""
    for leftover in folder.glob(".step-*.tmp"):
        shutil.rmtree(leftover)


def finish(aside: Path, final: Path, state: Mapping[str, Any]) -> None:
    """Add ``state`` and the files' sizes, flush everything to disk, and rename the folder."""
    text = write_arrays(aside, state)
    sizes = {str(path.relative_to(aside)): path.stat().st_size for path in contents(aside)}
    (aside / TRAINER).write_text(f'{{"state": {text}, "bytes": {json.dumps(sizes)}}}')
    for path in aside.rglob("*"):
        sync(path)
    sync(aside)
    if final.exists():  # left by a run that later resumed from an older checkpoint
        shutil.rmtree(final)
    aside.replace(final)
    sync(final.parent)


def write_arrays(folder: Path, state: Mapping[str, Any]) -> str:
    """Write the arrays in ``state``, if any, to :data:`ARRAYS`; return the rest as JSON, with their numbers."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}

    def number(value: object) -> dict[str, str]:
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{type(value).__name__}: neither a plain value nor an array")
        arrays[str(len(arrays))] = value
        return {"array": str(len(arrays) - 1)}

    text = json.dumps(state, default=number)
    if arrays:
        np.savez(folder / ARRAYS, **arrays)  # type: ignore[arg-type]
    return text


def read_arrays(folder: Path, state: Any) -> Any:
    """Return ``state`` with the arrays that :func:`write_arrays` numbered."""
    if not (folder / ARRAYS).exists():
        return state
    with np.load(folder / ARRAYS) as arrays:
        return filled(state, arrays)


def filled(value: Any, arrays: Mapping[str, Any]) -> Any:
    """Return a value read from JSON with every numbered array in its place."""
    if isinstance(value, list):
        return [filled(one, arrays) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array"}:
        return arrays[value["array"]]
    return {name: filled(one, arrays) for name, one in value.items()}


def contents(folder: Path) -> list[Path]:
    """Return the files of a checkpoint except :data:`TRAINER`."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != TRAINER)


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*"))


def load_checkpoint(path: Path, trainer: Trainer) -> dict[str, Any]:
    """Load a checkpoint into ``trainer`` and return its ``state``. A call of all ranks.

    Raises RunFolderError if a file is missing or truncated, or holds another model.
    """
    state = verify_checkpoint(path)
    try:
        trainer.read(path)
        return dict(read_arrays(path, state))
    except (OSError, RuntimeError, SafetensorError, ValueError, KeyError, BadZipFile) as error:
        raise damaged(path, str(error)) from error


def verify_checkpoint(path: Path) -> dict[str, Any]:
    """Check that every file has the size it was written with; return the ``state``. Raises RunFolderError."""
    try:
        record = json.loads((path / TRAINER).read_text(encoding="utf-8"))
        state, sizes = record["state"], record["bytes"]
    except FileNotFoundError as error:
        raise damaged(path, f"no {TRAINER}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"{TRAINER}: {error}") from error
    for name, size in sizes.items():
        size_now = (path / name).stat().st_size if (path / name).is_file() else None
        if size_now != size:
            what = "is missing" if size_now is None else f"has {size_now} bytes"
            raise damaged(path, f"{name} {what}, {size} were written")
    return dict(state)


def damaged(path: Path, why: str) -> RunFolderError:
    """Return the error for a damaged checkpoint."""
    return RunFolderError(f"{path}: damaged checkpoint ({why}); delete it to go on from an older one")


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
