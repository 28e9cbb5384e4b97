"""A cache and checkpointing under the names that the installed transformers has, and under those of before."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from archer.models.transformers_names import cache_keyword, enable_checkpointing


def small() -> Qwen2ForCausalLM:
    config = Qwen2Config(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=20,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


class OldDecoder(nn.Module):
    def forward(self, input_ids: Tensor, past_key_values: object = None) -> Tensor:
        return input_ids


class OldModel:
    asked: list[Mapping[str, bool] | None]

    def __init__(self) -> None:
        self.asked = []

    def gradient_checkpointing_enable(self, options: Mapping[str, bool] | None = None) -> None:
        self.asked.append(options)


def test_a_cache_is_taken_without_a_warning() -> None:
    model = small()
    cache = DynamicCache(config=model.config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.base_model(torch.tensor([[3, 5, 7]]), use_cache=True, **{cache_keyword(model.base_model): cache})
    assert cache.get_seq_length() == 3


def test_a_forward_pass_of_before_is_given_its_own_keyword() -> None:
    assert cache_keyword(OldDecoder()) == "past_key_values"


def test_checkpointing_is_switched_on_without_a_warning() -> None:
    model = small()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        enable_checkpointing(model)
    layers = model.base_model.layers
    assert [layer.gradient_checkpointing for layer in layers] == [True, True]
    assert layers[0]._gradient_checkpointing_func.keywords == {"use_reentrant": False}
    enable_checkpointing(model, {"use_reentrant": True})
    assert layers[0]._gradient_checkpointing_func.keywords == {"use_reentrant": True}


def test_checkpointing_of_before_is_switched_on_by_its_own_name() -> None:
    model = OldModel()
    enable_checkpointing(model, {"use_reentrant": True})  # type: ignore[arg-type]
    enable_checkpointing(model)  # type: ignore[arg-type]
    assert model.asked == [{"use_reentrant": True}, None]
