"""The forward by the model's own modules, for any architecture that takes a cache and a mask.

P prompts, S rows being sampled, T positions, K key-value heads, D head size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from archer.engines.native.slots import Slots
from archer.models.transformers_names import cache_keyword


class Modules:
    """A :class:`~archer.engines.native.forward.Forward`; ``autocast`` is the layers' dtype (None: the weights')."""

    def __init__(self, model: PreTrainedModel, autocast: torch.dtype | None) -> None:
        self.model, self.autocast = model, autocast
        self.keyword = cache_keyword(model.base_model)

    def reach(self, width: int) -> None:
        """Do nothing: the modules need no preparation."""

    def prefill(self, token_PT: Tensor, write: Callable[[int, Tensor, Tensor], None]) -> Tensor:
        """Return hidden states (P, T, H), and call ``write`` with every layer's keys and values."""
        cache = DynamicCache(config=self.model.config)
        with self._arithmetic():
            hidden_PTH: Tensor = self.model.base_model(input_ids=token_PT, use_cache=True, **{self.keyword: cache})[0]
        for number, layer in enumerate(cache.layers):
            # Attention uses autocast's dtype for both; rotated keys come in the wider dtype of the angles.
            dtype = self.autocast or layer.values.dtype
            write(number, layer.keys.to(dtype), layer.values.to(dtype))
        return hidden_PTH

    def step(self, token_S: Tensor, slots: Slots, span: int) -> Tensor:
        """Return hidden states (S, H) of the rows' next tokens."""
        rows = len(token_S)
        cache = Cache(layers=[SlotLayer(slots, layer, rows, span) for layer in range(slots.layers)])
        with self._arithmetic():
            hidden_S1H: Tensor = self.model.base_model(
                input_ids=token_S[:, None], position_ids=slots.length_S[:rows, None],
                attention_mask=slots.seen(rows, span)[:, None, None], use_cache=True, **{self.keyword: cache},
            )[0]  # fmt: skip
        return hidden_S1H[:, 0]

    def _arithmetic(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, self.autocast, enabled=self.autocast is not None)


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer of :class:`Slots` in the shape of a transformers cache: the first ``rows`` and ``span`` positions."""

    def __init__(self, slots: Slots, layer: int, rows: int, span: int) -> None:
        super().__init__()
        self.slots, self.layer, self.rows, self.span = slots, layer, rows, span
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the prompts are already in the slots."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write one new position per row; return the keys and values of the first ``span`` positions."""
        key_SKWD, value_SKWD = self.slots.of(self.layer)
        dtype = key_SKWD.dtype
        self.slots.append(self.layer, key_states[:, :, 0].to(dtype), value_states[:, :, 0].to(dtype))
        return key_SKWD[: self.rows, :, : self.span], value_SKWD[: self.rows, :, : self.span]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (number of keys the next query sees, offset)."""
        return self.span, 0

    def get_seq_length(self) -> int:
        """Return the length of the longest row."""
        return self.span - 1

    def get_max_length(self) -> int:
        """Return the most positions that a row can hold."""
        return self.slots.width
