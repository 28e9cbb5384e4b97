"""Computing hidden states: by the lean forward if it covers the model, else by the model's own modules.

P prompts, S rows being sampled, T positions, H hidden size, K key-value heads, D head size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from archer.engines.native.lean import Lean
from archer.engines.native.modules import Modules
from archer.engines.native.slots import Slots
from archer.engines.native.weights import unfit

CLOSE = {torch.float32: 1e-3}  # largest relative difference of hidden states (measured: 1e-6), by dtype
CLOSE_ELSE = 0.05  # the same in a narrower dtype
CHECKED = 7  # prompt tokens of the comparison, before one decoded token
logger = logging.getLogger(__name__)

Write = Callable[[int, Tensor, Tensor], None]  # called with a layer's number, keys and values (P, K, T, D)


class Forward(Protocol):
    """Computes hidden states (after the last norm) of prompts and of next tokens, without waiting for the GPU."""

    def reach(self, width: int) -> None:
        """Prepare for sequences of ``width`` positions."""
        ...

    def prefill(self, token_PT: Tensor, write: Write) -> Tensor:
        """Return hidden states (P, T, H) of padded prompts; pass each layer's keys and values to ``write``."""
        ...

    def step(self, token_S: Tensor, slots: Slots, span: int) -> Tensor:
        """Return hidden states (S, H) of the first rows' next tokens; write their keys and values into ``slots``.

        ``span`` is at least the length of the longest row, the new token included.
        """
        ...


def open_forward(model: PreTrainedModel, autocast: torch.dtype | None, lean: bool) -> Forward:
    """Return the forward over the model's current weights, for one call of `generate`."""
    return Lean(model, autocast) if lean else Modules(model, autocast)


@torch.inference_mode()
def misfit(model: PreTrainedModel, autocast: torch.dtype | None) -> str | None:
    """Why the lean forward cannot run a model: unsupported config, or other hidden states; None if it can."""
    reason = unfit(model)
    if reason is not None:
        return reason
    try:
        lean_PTH, own_PTH = (states(open_forward(model, autocast, lean), model) for lean in (True, False))
    except (AttributeError, RuntimeError, ValueError) as error:
        return f"the lean forward fails on it ({type(error).__name__}: {error})"
    difference = float((lean_PTH - own_PTH).norm() / own_PTH.norm())
    if difference <= CLOSE.get(autocast or own_PTH.dtype, CLOSE_ELSE):
        return None
    return f"its lean hidden states are {difference:.1%} from its own"


def states(forward: Forward, model: PreTrainedModel) -> Tensor:
    """Return hidden states (2, T, H) of two short prompts and one decoded token after each."""
    device = model.device
    token_PT = (torch.arange(2 * (CHECKED + 1), device=device) * 7 % model.config.vocab_size).view(2, -1)
    slots = Slots(model.config.num_hidden_layers, 2, CHECKED + 1, device)
    forward.reach(slots.width)
    rows = slots.take(torch.full((2,), CHECKED, device=device))
    source_S = torch.arange(2, device=device)
    prompt_PTH = forward.prefill(
        token_PT[:, :CHECKED], lambda layer, key, value: slots.fill(layer, rows, source_S, key, value)
    )
    next_SH = forward.step(token_PT[:, CHECKED], slots, CHECKED + 1)
    return torch.cat([prompt_PTH, next_SH[:, None]], 1)
