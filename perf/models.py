"""Models with random weights, shaped like Qwen2, beside the lab's tokenizer: for speed, not for what they say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen2Config
from transformers.utils import logging

from archer.models.loading import model_path

BESIDE = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
# by name: hidden size, layers, MLP size, heads, key-value heads, vocabulary
SHAPES = {
    "0.6M": (96, 4, 256, 3, 3, 344),
    "2M": (192, 4, 512, 6, 2, 344),
    "7M": (256, 8, 768, 4, 2, 344),
    "13M": (384, 8, 1024, 6, 2, 344),
    "29M": (512, 10, 1408, 8, 4, 344),
    "wide": (96, 2, 256, 3, 3, 4096),
    "0.5B": (896, 24, 4864, 14, 2, 151936),
    "1.5B": (1536, 28, 8960, 12, 2, 151936),
}


def config(name: str, context: int = 2**20) -> Qwen2Config:
    """Return the configuration of a shape; the embeddings are tied, as in Qwen2's small models."""
    hidden, layers, mlp, heads, pairs, vocabulary = SHAPES[name]
    beside: dict[str, Any] = {"eos_token_id": 339, "pad_token_id": 340, "max_position_embeddings": context}
    return Qwen2Config(
        hidden_size=hidden, num_hidden_layers=layers, intermediate_size=mlp, num_attention_heads=heads,
        num_key_value_heads=pairs, vocab_size=vocabulary, tie_word_embeddings=True, **beside,
    )  # fmt: skip


def make(name: str, folder: Path) -> int:
    """Write a model of a shape into ``folder``, its weights drawn from seed 0; return its number of parameters."""
    logging.disable_progress_bar()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(name), dtype=torch.float32)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    for file in BESIDE:
        shutil.copy(Path(model_path("lab")) / file, folder / file)
    return int(model.num_parameters())
