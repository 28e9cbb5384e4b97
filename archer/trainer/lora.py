"""Low-rank adapters (arXiv 2106.09685) by PEFT: W + alpha / rank * B A on linear layers; only A and B train.

PEFT injects the adapter into the Hugging Face model. Weights are read merged, by their names without an adapter; the
reference policy is the model with the adapter off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from transformers import PreTrainedModel

from archer.errors import MissingError, RecipeError, first_line
from archer.recipe.sections import LoraSection

NAME = "default"  # PEFT's name of the only adapter


def add_adapter(model: PreTrainedModel, lora: LoraSection, seed: int) -> None:
    """Inject an adapter into ``model``: B is 0, so outputs do not change yet, and A is sampled with ``seed``.

    Raises MissingError without PEFT, RecipeError for targets that are not linear layers of the model.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingError(f"update.lora: {first_line(error)}; pip install 'archer-rlvr[lora]'") from error
    targets = list(lora.targets) or "all-linear"
    head = model.get_output_embeddings()
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, lora_dropout=0.0, bias="none")
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise RecipeError(f"update.lora: targets {targets}: {first_line(error)}") from error
    if model.get_output_embeddings() is not head:
        raise RecipeError("update.lora: targets: the output layer cannot have an adapter; name other layers")
    generator = torch.Generator().manual_seed(seed)
    for name, layer in adapted(model).items():
        if not isinstance(layer.base_layer, nn.Linear):
            raise RecipeError(f"update.lora: targets: {name} is no linear layer; name others")
        low_RH = torch.empty(layer.lora_A[NAME].weight.shape)
        nn.init.kaiming_uniform_(low_RH, a=math.sqrt(5), generator=generator)
        with torch.no_grad():
            layer.lora_A[NAME].weight.copy_(low_RH)


def adapted(model: PreTrainedModel) -> dict[str, Any]:
    """Return the layers with an adapter, by their names in the model."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether the model has an adapter."""
    return bool(adapted(model))


@contextmanager
def without_adapter(model: PreTrainedModel) -> Iterator[None]:
    """Switch the adapter off within the context."""
    layers = list(adapted(model).values())
    trained = {parameter: parameter.requires_grad for parameter in model.parameters()}
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, before in trained.items():
            parameter.requires_grad_(before)


def pairs(model: PreTrainedModel) -> dict[Parameter, tuple[Parameter, Parameter, float]]:
    """Return (A, B, alpha / rank) by weight, for every weight with an adapter."""
    return {
        layer.base_layer.weight: (layer.lora_A[NAME].weight, layer.lora_B[NAME].weight, layer.scaling[NAME])
        for layer in adapted(model).values()
    }


def merged(weight: Tensor, low: Tensor, high: Tensor, scale: float) -> Tensor:
    """Return W + scale B A, in the weight's dtype, from A ``low`` and B ``high``."""
    return (weight.float() + scale * (high.float() @ low.float())).to(weight.dtype)


def plain_name(name: str) -> str | None:
    """Return a parameter's name without the adapter; None for the adapter's own."""
    return None if ".lora_" in name else name.replace(".base_layer.", ".")
