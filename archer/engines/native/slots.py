"""The key-value cache: a fixed number of rows, of which the first ``active`` decode.

L layers, S rows, K key-value heads, T positions of at most W, D head size, P prompts. A row writes at its own
position, so rows of any length share one batch. The last active row replaces a finished one, so the active rows are
always a prefix, and attention reads a view of it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


class Slots:
    """All layers' keys and values (L, 2, S, K, W, D), and the rows' lengths.

    ``longest`` and ``held`` are the maximum and the sum of the active rows' lengths, or upper bounds of them while
    ended rows are not dropped yet. Unwritten positions hold zeros, so that no NaN or infinity gets into a product.
    """

    def __init__(self, layers: int, capacity: int, width: int, device: torch.device) -> None:
        self.layers, self.capacity, self.width = layers, capacity, width
        self.active = self.longest = self.held = 0
        self.length_S = torch.zeros(capacity, dtype=torch.long, device=device)
        self.row_S = torch.arange(capacity, device=device)
        self.position_W = torch.arange(width, device=device)
        self.cache_LCSKWD: Tensor | None = None
        self.views: list[tuple[Tensor, Tensor]] = []  # made once: a step reads them many times

    def of(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return one layer's keys and values, each (S, K, W, D); call after the first :meth:`fill`."""
        return self.views[layer]

    def take(self, length_S: Tensor) -> slice:
        """Make a row active for each prompt length, and return the rows; :meth:`fill` writes the prompts there."""
        rows = slice(self.active, self.active + len(length_S))
        self.length_S[rows] = length_S
        self.active = rows.stop
        self._measure()
        return rows

    def fill(self, layer: int, rows: slice, source_S: Tensor, key_PKTD: Tensor, value_PKTD: Tensor) -> None:
        """Copy prompts' keys and values into ``rows``; row s gets prompt ``source_S[s]``."""
        if self.cache_LCSKWD is None:  # the shape of the heads is known at the first write
            _, heads, _, size = key_PKTD.shape
            self._hold(key_PKTD.new_zeros((self.layers, 2, self.capacity, heads, self.width, size)))
        for column_SKWD, new_PKTD in zip(self.of(layer), (key_PKTD, value_PKTD), strict=True):
            column_SKWD[rows, :, : new_PKTD.shape[2]] = new_PKTD[source_S]

    def append(self, layer: int, key_SKD: Tensor, value_SKD: Tensor) -> None:
        """Write the first rows' keys and values at their next position."""
        rows = len(key_SKD)
        key_SKWD, value_SKWD = self.of(layer)
        key_SKWD[self.row_S[:rows], :, self.length_S[:rows]] = key_SKD
        value_SKWD[self.row_S[:rows], :, self.length_S[:rows]] = value_SKD

    def seen(self, rows: int, span: int) -> Tensor:
        """Return which of the first ``span`` positions the rows' next token sees, (S, T) bool."""
        return self.position_W[:span] <= self.length_S[:rows, None]

    def advance(self) -> None:
        """Update ``longest`` and ``held`` after a decode step wrote one position in every active row."""
        self.longest += 1
        self.held += self.active

    def widen(self, width: int) -> bool:
        """Make room for rows of ``width`` positions; return whether the cache grew."""
        if width <= self.width:
            return False
        if self.cache_LCSKWD is not None:
            self._hold(pad(self.cache_LCSKWD, (0, 0, 0, width - self.width)))
        self.position_W = torch.arange(width, device=self.position_W.device)
        self.width = width
        return True

    def drop(self, hole_S: Tensor, mover_S: Tensor, kept: int) -> None:
        """Shrink to ``kept`` rows by moving rows ``mover_S`` into rows ``hole_S``."""
        if len(hole_S):
            assert self.cache_LCSKWD is not None
            used = self.cache_LCSKWD[:, :, :, :, : self.longest]
            used[:, :, hole_S] = used[:, :, mover_S]
            self.length_S[hole_S] = self.length_S[mover_S]
        self.active = kept
        self._measure()

    def _hold(self, cache_LCSKWD: Tensor) -> None:
        self.cache_LCSKWD = cache_LCSKWD
        self.views = [(layer_CSKWD[0], layer_CSKWD[1]) for layer_CSKWD in cache_LCSKWD]

    def _measure(self) -> None:
        length_S = self.length_S[: self.active]
        self.longest, self.held = torch.stack([length_S.max(), length_S.sum()]).tolist() if self.active else (0, 0)
