"""What a run puts through the model, counted: the work behind the seconds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass


@dataclass
class Work:
    """One pass's work so far: forward ``calls``, ``tokens`` through the layers, ``rows`` through the output head.

    ``pairs`` counts what attention compares, queries x keys that they may see, of one head in one layer.
    """

    calls: int = 0
    tokens: int = 0
    pairs: int = 0
    rows: int = 0

    def add(self, tokens: int, pairs: int, rows: int) -> None:
        """Count one call."""
        self.calls += 1
        self.tokens += tokens
        self.pairs += pairs
        self.rows += rows


class Tally(defaultdict[str, Work]):
    """Work by pass: an engine's "prefill" and "decode", a policy's "score", "reference" and "update"."""

    def __init__(self) -> None:
        super().__init__(Work)
