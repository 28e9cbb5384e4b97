"""Averages that do not depend on how a step is split: sums and counts, divided once at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from torch import Tensor


class Averages:
    """Sums, counts and maxima by metric name."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, float] = defaultdict(float)
        self.tops: dict[str, float] = {}

    def add(self, name: str, value: float, count: float = 1.0) -> None:
        """Add ``value``, already a sum over ``count`` elements."""
        self.sums[name] += value
        self.counts[name] += count

    def top(self, name: str, value: float) -> None:
        """Keep the largest ``value`` of this name."""
        self.tops[name] = max(value, self.tops.get(name, value))

    def add_columns(self, columns: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
        """Add every column over every mask, named ``column_mask``, or ``column`` for the mask ""."""
        empty = {suffix: ~mask for suffix, mask in masks.items()}  # where a column may be NaN
        for name, column in columns.items():
            for suffix, mask in masks.items():
                full = f"{name}_{suffix}" if suffix else name
                self.add(full, float(column.detach().masked_fill(empty[suffix], 0).sum()), float(mask.sum()))

    def result(self) -> dict[str, float]:
        """Return the mean of each name with a count above 0, and the maxima."""
        means = {name: self.sums[name] / count for name, count in sorted(self.counts.items()) if count}
        return {**means, **self.tops}
