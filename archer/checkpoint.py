"""Checkpoints: Hugging Face folders with the trainer's state beside the weights, written aside and renamed.

The rename is the moment a step is done: killed before it, a run redoes the step; killed after, it goes on
with the next. Weights, optimizer and stream position are all there is to a run's state, so what follows is
bitwise the same on the same machine.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from archer.errors import RunFolderError

TRAINER = "trainer.pt"


def save(
    folder: Path,
    step: int,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    state: dict[str, Any],
    keep: int,
) -> None:
    """Write the checkpoint after ``step`` steps and delete all but the newest ``keep``.

    Raises RunFolderError when the disk is full; the checkpoints before it stay.
    """
    aside = folder / f".step-{step:06d}.tmp"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        torch.save(state, aside / TRAINER)
        for path in aside.iterdir():
            sync(path)
        aside.replace(folder / f"step-{step:06d}")
        sync(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise RunFolderError(
            f"{folder}: the checkpoint of step {step} could not be written ({error}); free some space and run the "
            "same command again, it goes on from the last checkpoint"
        ) from error
    for old in found(folder)[:-keep]:
        shutil.rmtree(old)


def found(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*"))


def load(path: Path, model: PreTrainedModel) -> dict[str, Any]:
    """Put a checkpoint's weights into ``model`` and return the trainer's state.

    Raises RunFolderError when a file is missing or cut short.
    """
    try:
        state: dict[str, Any] = torch.load(path / TRAINER, weights_only=True, map_location=model.device)
        weights: dict[str, torch.Tensor] = {}
        for part in sorted(path.glob("*.safetensors")):
            weights.update(load_file(part))
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except Exception as error:  # safetensors, pickle and torch each raise their own for a cut file
        raise RunFolderError(f"{path}: damaged checkpoint ({error}); delete it to go on from an older one") from error
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    if unexpected or set(missing) - tied:
        raise RunFolderError(f"{path}: weights do not fit the model: missing {missing}, unexpected {unexpected}")
    return state


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
