"""What transformers calls by other names from version to version: the cache of a forward pass, checkpointing.

transformers 5.24 renamed `past_key_values` to `cache`, an earlier one `gradient_checkpointing_enable` to
`activation_checkpointing_enable`; the old names warn the user where there are new ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from torch import nn
from transformers import PreTrainedModel


def cache_keyword(module: nn.Module) -> str:
    """Return the keyword under which ``module``'s forward pass takes a cache."""
    return "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"


def enable_checkpointing(model: PreTrainedModel, options: Mapping[str, bool] | None = None) -> None:
    """Let every layer keep its input alone and be computed anew in the backward pass.

    ``options`` are those of `torch.utils.checkpoint.checkpoint`; none: transformers' choice. Raises ValueError for a
    model without checkpointing.
    """
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(None if options is None else dict(options))
