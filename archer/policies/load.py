"""Loading a model and its tokenizer: the embedded lab model and any Hugging Face folder or hub name alike."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from archer.errors import ModelError
from archer.recipe import Model

EMBEDDED = "lab"


def model_path(path: str) -> str:
    """Return the folder of the embedded model for ``lab``, else the path or hub name as given."""
    return str(files("archer") / "lab" / "model") if path == EMBEDDED else path


def load_model(model: Model) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load weights in float32 (on the GPU where there is one) and the tokenizer beside them.

    Raises ModelError naming the folder and what it lacks.
    """
    path = model_path(model.path)
    if path.startswith((".", "/")) and not (Path(path) / "config.json").is_file():
        raise ModelError(f"model.path: {model.path}: no config.json there; give a Hugging Face folder or hub name")
    logging.disable_progress_bar()
    try:
        loaded = AutoModelForCausalLM.from_pretrained(path, revision=model.revision, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(path, revision=model.revision)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model.path: {model.path}: cannot be loaded: {str(error).splitlines()[0]}") from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return loaded.to(device), tokenizer
