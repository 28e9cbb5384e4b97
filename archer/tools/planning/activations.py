"""Bytes that a pass saves for the backward pass and uses in it, counted by running it on tensors without data.

The model's own code runs with one and with two layers, so the count is right for every architecture that trains here;
the difference of the two is one layer's.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PretrainedConfig, PreTrainedModel

from archer.models.transformers_names import cache_keyword, enable_checkpointing
from archer.tools.planning.live import LiveBytes

SHORT, LONG = 16384, 32768  # tokens of counted passes; bytes are linear in tokens: attention keeps no T x T scores


@dataclass(frozen=True)
class ActivationBytes:
    """Bytes per token: ``layer`` of one layer, ``rest`` outside of layers, ``hidden`` of a last hidden state.

    ``casts`` are bytes of one layer whatever the tokens: its weights in the dtype of the arithmetic. With checkpointing
    a layer saves only its input, ``hidden`` bytes, and needs ``again`` while it is recomputed in the backward pass.
    """

    layer: float
    rest: float
    hidden: int
    casts: float
    again: float


@dataclass(frozen=True)
class PassDtypes:
    """The dtypes of a pass: weights in bfloat16, or in float32 with bfloat16 arithmetic (autocast), or all float32."""

    bf16_weights: bool
    autocast: bool


def kept(config: PretrainedConfig, how: PassDtypes) -> ActivationBytes:
    """Return the bytes per token that the pass saves."""
    if getattr(config, "num_experts", None) and not how.bf16_weights:
        # Grouped experts cannot be counted in float32; every number takes twice the bytes there.
        half = kept(config, replace(how, bf16_weights=True, autocast=False))
        return ActivationBytes(2 * half.layer, 2 * half.rest, 2 * half.hidden, half.casts, 2 * half.again)
    return _kept(json.dumps(config.to_dict(), sort_keys=True, default=str), how)


@cache
def _kept(text: str, how: PassDtypes) -> ActivationBytes:
    # A small vocabulary, because an embedding's gradient would be the peak, and no special tokens outside of it.
    values = {**json.loads(text), "vocab_size": 16, **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))}
    one, two = (with_layers(values, layers) for layers in (1, 2))
    layer = {tokens: saved(two, how, tokens) - saved(one, how, tokens) for tokens in (SHORT, LONG)}
    per_token = (layer[LONG] - layer[SHORT]) / (LONG - SHORT)
    rest = (saved(one, how, LONG) - saved(one, how, SHORT)) / (LONG - SHORT) - per_token
    width = 2 if how.bf16_weights else 4
    again = (anew(one, how, LONG) - anew(one, how, SHORT)) / (LONG - SHORT)
    casts = layer[LONG] - per_token * LONG
    return ActivationBytes(per_token, rest, width * one.hidden_size, casts, max(again, per_token))


def with_layers(values: dict[str, object], layers: int) -> PretrainedConfig:
    """Return the configuration with another number of layers."""
    changed = copy.deepcopy(values)
    changed["num_hidden_layers"] = layers
    kinds = changed.get("layer_types")
    if isinstance(kinds, list):
        changed["layer_types"] = (kinds * layers)[:layers]
    return AutoConfig.for_model(**changed)


def saved(config: PretrainedConfig, how: PassDtypes, tokens: int) -> int:
    """Return the bytes that one forward pass over ``tokens`` saves beside the parameters."""
    with FakeTensorMode():
        dtype = torch.bfloat16 if how.bf16_weights else torch.float32
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).train()
        id_BT = torch.zeros((1, tokens), dtype=torch.long)
        return saved_by(model, id_BT, how.autocast, **unpacked(model))


def anew(config: PretrainedConfig, how: PassDtypes, tokens: int) -> int:
    """Return the peak bytes that the backward pass over ``tokens`` allocates, recomputed layers included."""
    with FakeTensorMode():
        dtype = torch.bfloat16 if how.bf16_weights else torch.float32
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).train()
        enable_checkpointing(model)
        id_BT, no_cache = torch.zeros((1, tokens), dtype=torch.long), unpacked(model)
        live = LiveBytes()
        with quiet(), live:
            with torch.autocast("cpu", torch.bfloat16, enabled=how.autocast):
                hidden_BTH = model.base_model(input_ids=id_BT, use_cache=False, **no_cache)[0]
            total, before = hidden_BTH.sum(), live.bytes
            live.peak = before
            total.backward()
        return live.peak - before


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' warning that recomputed layers take no cache: the cache is empty here."""
    logger = logging.getLogger("transformers.modeling_layers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


def unpacked(model: PreTrainedModel) -> dict[str, DynamicCache]:
    """Return an empty cache by its keyword, which marks the sequence as a single one.

    Without it the forward pass reads values to find out whether several sequences are packed.
    """
    return {cache_keyword(model.base_model): DynamicCache(config=model.config)}


def saved_by(model: PreTrainedModel, id_BT: Tensor, autocast: bool, **more: object) -> int:
    """Return the bytes that ``model``'s forward pass saves for the backward pass, shared memory counted once."""
    owned = {storage(one) for one in (*model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []  # keeps memory alive, because a freed one's identity may be reused

    def note(tensor: Tensor) -> Tensor:
        if storage(tensor) not in owned:
            sizes[storage(tensor)] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        model.base_model(input_ids=id_BT, use_cache=False, **more)
    return sum(sizes.values())


def storage(tensor: Tensor) -> int:
    """Return the identity of a tensor's memory; views share it."""
    return int(tensor.untyped_storage()._cdata)
