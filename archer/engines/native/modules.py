"""The forward by the model's own modules: any architecture that takes a cache and a mask.

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
    """See :class:`~archer.engines.native.forward.Forward`; ``autocast`` is the dtype of the layers' arithmetic."""

    def __init__(self, model: PreTrainedModel, autocast: torch.dtype | None) -> None:
        self.model, self.autocast = model, autocast
        self.keyword = cache_keyword(model.base_model)

    def reach(self, width: int) -> None:
        """Nothing is prepared."""

    def prefill(self, token_PT: Tensor, write: Callable[[int, Tensor, Tensor], None]) -> Tensor:
        """Return hidden states (P, T, H), telling ``write`` of every layer's keys and values."""
        cache = DynamicCache(config=self.model.config)
        with self._arithmetic():
            hidden_PTH: Tensor = self.model.base_model(input_ids=token_PT, use_cache=True, **{self.keyword: cache})[0]
        for number, layer in enumerate(cache.layers):
            # Attention takes both in autocast's dtype, though turned keys come in the wider one of the angles.
            kept = self.autocast or layer.values.dtype
            write(number, layer.keys.to(kept), layer.values.to(kept))
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
    """One layer of :class:`Slots` as modules see a cache: the first ``rows``, of ``span`` positions."""

    def __init__(self, slots: Slots, layer: int, rows: int, span: int) -> None:
        super().__init__()
        self.slots, self.layer, self.rows, self.span = slots, layer, rows, span
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the prompts are there."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write one new position a row, return all positions that any row has."""
        key_SKWD, value_SKWD = self.slots.of(self.layer)
        kept = key_SKWD.dtype
        self.slots.append(self.layer, key_states[:, :, 0].to(kept), value_states[:, :, 0].to(kept))
        return key_SKWD[: self.rows, :, : self.span], value_SKWD[: self.rows, :, : self.span]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (keys seen by the coming query, offset)."""
        return self.span, 0

    def get_seq_length(self) -> int:
        """Return the longest row's length."""
        return self.span - 1

    def get_max_length(self) -> int:
        """Return the number of positions a row can hold."""
        return self.slots.width
