"""The models that the lean forward covers, and their weights, read again for each `generate`.

H hidden size, A query heads, K key-value heads, D head size, W positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

FAMILY = ("llama", "mistral", "qwen2", "qwen3")  # RMSNorm, rotary positions, grouped queries, gated MLP
GROWING = ("dynamic", "longrope")  # rotary embeddings whose angles change with the sequence length


@dataclass(frozen=True)
class Linear:
    """A linear map's weight (out, in) and optional bias (out,)."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Norm:
    """An RMSNorm's weight and epsilon."""

    weight: Tensor
    epsilon: float


@dataclass(frozen=True)
class Layer:
    """One decoder layer; ``joined`` computes queries, keys and values at once, ordered as :func:`paired` says."""

    before_attention: Norm
    joined: Linear
    query_norm: Norm | None
    key_norm: Norm | None
    out: Linear
    before_mlp: Norm
    gate: Linear
    up: Linear
    down: Linear
    activation: nn.Module


@dataclass(frozen=True)
class Weights:
    """A model without its LM head, matrices in the dtype of the arithmetic."""

    embedding_VH: Tensor
    layers: tuple[Layer, ...]
    last: Norm
    heads: int
    groups: int  # key-value heads
    size: int
    scale: float


def unfit(model: PreTrainedModel) -> str | None:
    """Why the lean forward cannot run this architecture; None if the config is supported."""
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    if config.model_type not in FAMILY:
        return f"model_type {config.model_type}"
    if getattr(config, "sliding_window", None) is not None:
        return f"sliding_window {config.sliding_window}"
    if rope.get("rope_type", "default") in GROWING:
        return f"rope_type {rope['rope_type']}"
    for layer in model.base_model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for name, module in (*attention.named_children(), *mlp.named_children()):
            if name.endswith("_proj") and type(module) is not nn.Linear:
                return f"{name} is {type(module).__name__}"
    return None


def read(model: PreTrainedModel, dtype: torch.dtype) -> Weights:
    """Return the weights for arithmetic in ``dtype``: the model's own tensors, copied only to join or cast them.

    The trainer updates the parameters in place, so the result is valid until the next update.
    """
    config, base = model.config, model.base_model
    first = base.layers[0].self_attn
    return Weights(
        embedding_VH=base.embed_tokens.weight.detach(),
        layers=tuple(read_layer(layer, dtype) for layer in base.layers),
        last=norm(base.norm),
        heads=config.num_attention_heads,
        groups=config.num_key_value_heads,
        size=first.head_dim,
        scale=first.scaling,
    )


def read_layer(layer: Any, dtype: torch.dtype) -> Layer:
    """Return one layer's weights."""
    attention, mlp = layer.self_attn, layer.mlp
    query_norm, key_norm = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
    size = attention.head_dim
    return Layer(
        before_attention=norm(layer.input_layernorm),
        joined=joined(attention, dtype),
        query_norm=None if query_norm is None else norm(query_norm, size),
        key_norm=None if key_norm is None else norm(key_norm, size),
        out=linear(attention.o_proj, dtype),
        before_mlp=norm(layer.post_attention_layernorm),
        gate=linear(mlp.gate_proj, dtype),
        up=linear(mlp.up_proj, dtype),
        down=linear(mlp.down_proj, dtype),
        activation=mlp.act_fn,
    )


def linear(module: nn.Linear, dtype: torch.dtype) -> Linear:
    """Return a module's weight and bias in ``dtype``."""
    bias = None if module.bias is None else module.bias.detach().to(dtype)
    return Linear(module.weight.detach().to(dtype), bias)


def norm(module: Any, size: int = 0) -> Norm:
    """Return a norm's weight; with a head ``size``, in the order of :func:`paired`."""
    weight = module.weight.detach()
    return Norm(paired(weight, size) if size else weight, module.variance_epsilon)


def joined(attention: Any, dtype: torch.dtype) -> Linear:
    """Return the weights of queries, keys and values as one, so that one product computes all three."""
    size, parts = attention.head_dim, (attention.q_proj, attention.k_proj, attention.v_proj)
    weights, biases = [part.weight.detach() for part in parts], [part.bias for part in parts]
    weights[:2] = [paired(weight, size) for weight in weights[:2]]
    if biases[0] is None:
        return Linear(torch.cat(weights).to(dtype), None)
    bias = torch.cat([paired(biases[0].detach(), size), paired(biases[1].detach(), size), biases[2].detach()])
    return Linear(torch.cat(weights).to(dtype), bias.to(dtype))


def paired(rows: Tensor, size: int) -> Tensor:
    """Order each head's ``rows`` so that the two of one rotary angle, i and i + D / 2, are neighbours.

    Two neighbours form a complex number, and one product rotates them. Queries and keys have the same order, so their
    products, and attention with them, do not change.
    """
    return rows.view(-1, 2, size // 2, *rows.shape[1:]).transpose(1, 2).flatten(0, 2)


def rotary_factors(model: PreTrainedModel, width: int, device: torch.device) -> Tensor:
    """Return the rotary factor of each pair at each position, (W, D / 2) complex, by the model's own angles."""
    position_1W = torch.arange(width, device=device)[None]
    cos_1WD, sin_1WD = model.base_model.rotary_emb(torch.zeros((), device=device), position_1W)
    half = cos_1WD.shape[-1] // 2
    return torch.complex(cos_1WD[0, :, :half].float(), sin_1WD[0, :, :half].float())
