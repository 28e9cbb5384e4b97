"""The lean forward of the Llama family: a few kernels per layer instead of the modules' thirty or so.

N tokens, P prompts, S rows being sampled, T positions, H hidden size, A query heads, K key-value heads, G query heads
of one key-value head, D head size, W positions of the longest sequence.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import embedding, rms_norm, scaled_dot_product_attention
from torch.nn.functional import linear as product
from transformers import PreTrainedModel

from archer.engines.native.slots import Slots
from archer.engines.native.weights import Layer, Linear, Norm, read, rotary_factors

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # layer, queries (N, A, D), keys, values (N, K, D) -> (N, AD)


class Lean:
    """A :class:`~archer.engines.native.forward.Forward` with the arithmetic of the modules under ``autocast``."""

    def __init__(self, model: PreTrainedModel, autocast: torch.dtype | None) -> None:
        self.model = model
        self.dtype = autocast or model.base_model.embed_tokens.weight.dtype
        self.weights = read(model, self.dtype)
        self.turn_WD = torch.zeros(0)

    def reach(self, width: int) -> None:
        """Compute the rotary factors of ``width`` positions."""
        self.turn_WD = rotary_factors(self.model, width, self.weights.embedding_VH.device)

    def prefill(self, token_PT: Tensor, write: Callable[[int, Tensor, Tensor], None]) -> Tensor:
        """Return hidden states (P, T, H), and call ``write`` with every layer's keys and values."""
        prompts, width = token_PT.shape
        grouped = self.weights.heads != self.weights.groups

        def attend(layer: int, *parts_NHD: Tensor) -> Tensor:
            query, key, value = (part.view(prompts, width, *part.shape[1:]).transpose(1, 2) for part in parts_NHD)
            write(layer, key, value)
            # Padding follows the tokens, so causal attention never sees it: no mask is needed.
            mixed_PATD = scaled_dot_product_attention(
                query, key, value, is_causal=True, scale=self.weights.scale, enable_gqa=grouped
            )
            return mixed_PATD.transpose(1, 2).flatten(0, 1).flatten(1)

        hidden_NH = self._layers(token_PT.flatten(), self.turn_WD[:width].repeat(prompts, 1), attend)
        return hidden_NH.view(prompts, width, -1)

    def step(self, token_S: Tensor, slots: Slots, span: int) -> Tensor:
        """Return hidden states (S, H) of the rows' next tokens."""
        rows, scale = len(token_S), self.weights.scale
        seen_ST = slots.seen(rows, span)
        by_hand = token_S.device.type == "cpu" and self.dtype == torch.float32
        mask = torch.where(seen_ST, 0.0, float("-inf")) if by_hand else seen_ST
        mix = mix_by_hand if by_hand else mix_fused

        def attend(layer: int, query_SAD: Tensor, key_SKD: Tensor, value_SKD: Tensor) -> Tensor:
            slots.append(layer, key_SKD, value_SKD)
            key_SKTD, value_SKTD = (column[:rows, :, :span] for column in slots.of(layer))
            # Queries that share a head's keys take the sequence axis, so no key is repeated.
            query_SKGD = query_SAD.view(rows, self.weights.groups, -1, self.weights.size)
            return mix(query_SKGD, key_SKTD, value_SKTD, mask, scale)

        return self._layers(token_S, self.turn_WD[slots.length_S[:rows]], attend)

    def _layers(self, token_N: Tensor, turn_ND: Tensor, attend: Attend) -> Tensor:
        """Return hidden states (N, H) after the last norm."""
        hidden_NH = embedding(token_N, self.weights.embedding_VH)
        turn_N1D = turn_ND[:, None]
        for number, layer in enumerate(self.weights.layers):
            parts = self._parts(layer, normed(hidden_NH, layer.before_attention), turn_N1D)
            hidden_NH = added(hidden_NH, attend(number, *parts), layer.out)
            input_NH = normed(hidden_NH, layer.before_mlp).to(self.dtype)
            gate_NI = layer.activation(product(input_NH, layer.gate.weight, layer.gate.bias))
            gate_NI *= product(input_NH, layer.up.weight, layer.up.bias)
            hidden_NH = added(hidden_NH, gate_NI, layer.down)
        return normed(hidden_NH, self.weights.last)

    def _parts(self, layer: Layer, input_NH: Tensor, turn_N1D: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries (N, A, D), rotated keys and values (N, K, D)."""
        heads, groups = self.weights.heads, self.weights.groups
        joined_NC = product(input_NH.to(self.dtype), layer.joined.weight, layer.joined.bias)
        joined_NCD = joined_NC.view(len(joined_NC), -1, self.weights.size)
        turning_NCD = joined_NCD[:, : heads + groups]
        if layer.query_norm is not None and layer.key_norm is not None:
            query_NAD, key_NKD = turning_NCD[:, :heads], turning_NCD[:, heads:]
            turning_NCD = torch.cat([normed(query_NAD, layer.query_norm), normed(key_NKD, layer.key_norm)], 1)
        pair_NCD = torch.view_as_complex(turning_NCD.float().view(*turning_NCD.shape[:2], -1, 2))
        turned_NCD = torch.view_as_real(pair_NCD * turn_N1D).flatten(2).to(self.dtype)
        return turned_NCD[:, :heads], turned_NCD[:, heads:], joined_NCD[:, heads + groups :]


def normed(input_NH: Tensor, norm: Norm) -> Tensor:
    """Return the RMSNorm over the last dimension."""
    return rms_norm(input_NH.to(norm.weight.dtype), norm.weight.shape, norm.weight, norm.epsilon)


def added(hidden_NH: Tensor, input_NI: Tensor, linear: Linear) -> Tensor:
    """Return the residual stream plus a linear map's output, added in place if the dtypes allow it."""
    if linear.bias is None and hidden_NH.dtype == linear.weight.dtype == torch.float32:
        return hidden_NH.addmm_(input_NI, linear.weight.T)
    return hidden_NH + product(input_NI, linear.weight, linear.bias)


def mix_by_hand(query_SKGD: Tensor, key_SKTD: Tensor, value_SKTD: Tensor, bias_ST: Tensor, scale: float) -> Tensor:
    """Return attention output (S, A D) by two batched products: the fastest on a CPU for one query per row."""
    rows, groups, queries, _ = query_SKGD.shape
    query, key, value = query_SKGD.flatten(0, 1), key_SKTD.flatten(0, 1), value_SKTD.flatten(0, 1)
    product_SAT = torch.bmm(query, key.transpose(1, 2)).view(rows, groups * queries, -1)
    score_SAT = torch.add(bias_ST[:, None], product_SAT, alpha=scale)
    return torch.bmm(score_SAT.softmax(-1).view(rows * groups, queries, -1), value).view(rows, -1)


def mix_fused(query_SKGD: Tensor, key_SKTD: Tensor, value_SKTD: Tensor, seen_ST: Tensor, scale: float) -> Tensor:
    """Return attention output (S, A D) by torch's fused kernel."""
    mixed_SKGD = scaled_dot_product_attention(
        query_SKGD, key_SKTD, value_SKTD, attn_mask=seen_ST[:, None, None], scale=scale
    )
    return mixed_SKGD.flatten(1)
