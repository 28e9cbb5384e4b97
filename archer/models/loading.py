"""Loads a model, its tokenizer or its configuration: the lab's, or any Hugging Face folder or hub name."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file, logging

from archer.errors import ModelError, first_line
from archer.recipe.sections import ModelSection

EMBEDDED = "lab"
VOCABULARIES = ("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model")
DECIDE = {  # files beside the weights that decide samples; the chat template shows in the prompts
    "config": ("config.json",),  # rotary positions, scaling, end tokens
    "generation": ("generation_config.json",),  # end tokens
    "tokenizer": ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
}


def model_path(path: str) -> str:
    """Return the folder of the lab's model for ``lab``, else the path or hub name as given."""
    return str(files("archer.models") / "lab") if path == EMBEDDED else path


def folder_of(model: ModelSection) -> str:
    """Return the folder or hub name of a model. Raises ModelError for a folder without one."""
    path = model_path(model.path)
    if path.startswith((".", "/")) and not (Path(path) / "config.json").is_file():
        raise ModelError(f"model.path: {model.path}: no config.json there; give a Hugging Face folder or hub name")
    return path


def load_weights(model: ModelSection, device: torch.device | None = None) -> PreTrainedModel:
    """Load a model in float32 on ``device`` (None: the GPU where there is one).

    Raises ModelError naming the folder and what it lacks.
    """
    path = folder_of(model)
    logging.disable_progress_bar()
    try:
        loaded, info = AutoModelForCausalLM.from_pretrained(
            path, revision=model.revision, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise unusable(model, error) from error
    if info["missing_keys"]:
        raise ModelError(
            f"model.path: {model.path}: weights are missing: {', '.join(sorted(info['missing_keys'])[:4])}"
        )
    return loaded.to(device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def load_model(
    model: ModelSection, device: torch.device | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and the tokenizer beside it. Raises ModelError."""
    return load_weights(model, device), load_tokenizer(model)


def load_tokenizer(model: ModelSection) -> PreTrainedTokenizerBase:
    """Load the tokenizer beside a model. Raises ModelError."""
    try:
        return AutoTokenizer.from_pretrained(folder_of(model), revision=model.revision)
    except (OSError, ValueError, KeyError) as error:
        raise unusable(model, error) from error


def load_config(model: ModelSection) -> PretrainedConfig:
    """Load a model's configuration alone. Raises ModelError."""
    try:
        return AutoConfig.from_pretrained(folder_of(model), revision=model.revision)
    except (OSError, ValueError, KeyError) as error:
        raise unusable(model, error) from error


def weights_digest(model: ModelSection) -> str:
    """Return the sha256 of a model's weights as they lie on disk.

    For one ``model.safetensors`` it equals ``sha256sum`` and the hash shown on the hub; for several files it is the
    hash of their contents in the order of their names. Raises ModelError if there are none.
    """
    try:
        return digest_of(on_disk(model))
    except ModelError as error:
        raise unusable(model, error) from error


def files_digests(model: ModelSection) -> dict[str, str]:
    """Return the sha256 of the files beside the weights that decide samples, by kind. Raises ModelError."""
    folder = on_disk(model)
    digests = {}
    for name, known in DECIDE.items():
        slow = VOCABULARIES if name == "tokenizer" and not (folder / "tokenizer.json").is_file() else ()
        present = [folder / file for file in (*known, *slow) if (folder / file).is_file()]
        parts = [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in present]
        digests[name] = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return digests


def on_disk(model: ModelSection) -> Path:
    """Return the local folder of a model's files, which for a hub name is its cache. Raises ModelError."""
    try:
        config = cached_file(folder_of(model), "config.json", revision=model.revision)
    except OSError as error:
        raise unusable(model, error) from error
    if config is None:
        raise ModelError(f"model.path: {model.path}: no config.json there; give a Hugging Face folder or hub name")
    return Path(config).parent


def digest_of(folder: Path) -> str:
    """Return the sha256 of the weights in ``folder``. Raises ModelError if there are none."""
    paths = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not paths:
        raise ModelError(f"{folder}: no *.safetensors there; save the model with save_pretrained")
    digest = hashlib.sha256()
    for part in paths:
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def unusable(model: ModelSection, error: Exception) -> ModelError:
    """Return the error for a model that cannot be loaded, with the first line of the cause."""
    return ModelError(f"model.path: {model.path}: cannot be loaded: {first_line(error)}")
