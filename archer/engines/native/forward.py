"""How hidden states are made: the lean forward where it fits the model, the model's own modules elsewhere.

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

CLOSE = {torch.float32: 1e-3}  # difference as a share of the hidden states (measured: 1e-6), by the arithmetic's dtype
CLOSE_ELSE = 0.05  # the same in a narrower one
CHECKED = 7  # prompt tokens of the comparison, and one decoded
logger = logging.getLogger(__name__)

Write = Callable[[int, Tensor, Tensor], None]  # a layer's number, prompts' keys and values, each (P, K, T, D)


class Forward(Protocol):
    """Makes hidden states (after the last norm) of prompts and of next tokens; no part of it waits for a GPU."""

    def reach(self, width: int) -> None:
        """Prepare for sequences of ``width`` positions."""
        ...

    def prefill(self, token_PT: Tensor, write: Write) -> Tensor:
        """Return hidden states (P, T, H) of prompts padded at their ends, telling ``write`` of keys and values."""
        ...

    def step(self, token_S: Tensor, slots: Slots, span: int) -> Tensor:
        """Return hidden states (S, H) of the first rows' next tokens, whose keys and values are written into ``slots``.

        No row is longer than ``span`` positions, its new one included.
        """
        ...


def open_forward(model: PreTrainedModel, autocast: torch.dtype | None, lean: bool) -> Forward:
    """Return the forward over the model's weights as they are now, for one call of `generate`."""
    return Lean(model, autocast) if lean else Modules(model, autocast)


@torch.inference_mode()
def misfit(model: PreTrainedModel, autocast: torch.dtype | None) -> str | None:
    """Say why a model takes its own modules: by its looks, or as its lean hidden states are others. None: it fits."""
    reason = unfit(model)
    if reason is not None:
        return reason
    try:
        found, expected = (states(open_forward(model, autocast, lean), model) for lean in (True, False))
    except (AttributeError, RuntimeError, ValueError) as error:
        return f"the lean forward fails on it ({type(error).__name__}: {error})"
    share = float((found - expected).norm() / expected.norm())
    if share <= CLOSE.get(autocast or expected.dtype, CLOSE_ELSE):
        return None
    return f"its lean hidden states are {share:.1%} from its own"


def states(forward: Forward, model: PreTrainedModel) -> Tensor:
    """Return hidden states (2, T, H) of short prompts and of one more token behind each."""
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
