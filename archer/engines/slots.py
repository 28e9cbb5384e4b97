"""The key-value cache of the native engine: a fixed number of rows, of which the first ``active`` decode.

S rows, T positions, H heads, D head size. A row writes at its own position, so rows of any length share one
batch; a finished row's place is taken by the last active one, so the batch is always a prefix, and a
view of it, never a copy, is what attention reads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, CacheLayerMixin


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, each (S, H, T, D)."""

    def __init__(self, slots: Slots) -> None:
        super().__init__()
        self.slots = slots

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate on the first write, when the heads' shapes are known."""
        rows, width = self.slots.capacity, self.slots.width
        self.keys = key_states.new_zeros((rows, key_states.shape[1], width, key_states.shape[3]))
        self.values = value_states.new_zeros((rows, value_states.shape[1], width, value_states.shape[3]))
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write one new position a row, return all positions that any row has."""
        rows = torch.arange(self.slots.active, device=key_states.device)
        where = self.slots.length_S[: self.slots.active]
        self.keys[rows, :, where] = key_states[:, :, 0]
        self.values[rows, :, where] = value_states[:, :, 0]
        span = slice(0, self.slots.longest + 1)
        return self.keys[: self.slots.active, :, span], self.values[: self.slots.active, :, span]

    def fill(self, rows: slice, source: Tensor, keys: Tensor, values: Tensor) -> None:
        """Copy prompts' keys and values (P, H, T', D) into ``rows``; ``source`` says which prompt each gets."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self.keys[rows, :, : keys.shape[2]] = keys[source]
        self.values[rows, :, : values.shape[2]] = values[source]

    def widen(self, width: int) -> None:
        """Give every row room for ``width`` positions."""
        if self.is_initialized:
            more = (0, 0, 0, width - self.keys.shape[2])
            self.keys, self.values = pad(self.keys, more), pad(self.values, more)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (keys seen by the coming query, offset)."""
        return self.slots.longest + query_length, 0

    def get_seq_length(self) -> int:
        """Return the longest row's length."""
        return self.slots.longest

    def get_max_length(self) -> int:
        """Return the number of positions a row can hold."""
        return self.slots.width


class Slots:
    """All layers' caches and the rows' lengths."""

    def __init__(self, layers: int, capacity: int, width: int, device: torch.device) -> None:
        self.capacity, self.width = capacity, width
        self.active = 0
        self.longest = 0
        self.length_S = torch.zeros(capacity, dtype=torch.long, device=device)
        self.layers = [SlotLayer(self) for _ in range(layers)]
        self.cache = Cache(layers=self.layers)

    def add(self, source: Tensor, prompts: Cache, length_P: Tensor) -> slice:
        """Append a row for each entry of ``source`` (an index into the prefilled ``prompts``)."""
        rows = slice(self.active, self.active + len(source))
        for layer, prompt in zip(self.layers, prompts.layers, strict=True):
            layer.fill(rows, source, prompt.keys, prompt.values)
        self.length_S[rows] = length_P[source]
        self.active = rows.stop
        self._measure()
        return rows

    def widen(self, width: int) -> None:
        """Make room for rows of ``width`` positions, where there is less."""
        if width > self.width:
            for layer in self.layers:
                layer.widen(width)
            self.width = width

    def mask(self) -> Tensor:
        """Return which positions each active row's next token may see, (S, 1, 1, T) bool."""
        position_T = torch.arange(self.longest + 1, device=self.length_S.device)
        return (position_T <= self.length_S[: self.active, None])[:, None, None, :]

    def advance(self) -> None:
        """Count the position that the forward pass just wrote."""
        self.length_S[: self.active] += 1
        self.longest += 1

    def drop(self, holes: Tensor, movers: Tensor, kept: int) -> None:
        """Shrink to ``kept`` rows: rows ``movers`` take the places ``holes``."""
        for layer in self.layers:
            layer.keys[holes] = layer.keys[movers]
            layer.values[holes] = layer.values[movers]
        self.length_S[holes] = self.length_S[movers]
        self.active = kept
        self._measure()

    def _measure(self) -> None:
        self.longest = int(self.length_S[: self.active].max()) if self.active else 0
