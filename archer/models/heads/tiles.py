"""How N tokens x V columns of logits are cut, and how many of them are held at once.

N tokens, V vocabulary, H hidden size, R rows and C columns of a tile. Columns are the outer loop: the weight is
streamed once, and a tile of its gradient is complete before the next begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

# Logits of a tile. On a CPU smaller ones stay in the second cache, which saves 2 % alone on the machine; where another
# process wants a core, every pass over a tile waits for it at its end, and few passes are several times as fast.
TILE = {"cpu": 2**22, "cuda": 2**24}
# Columns that a tile has at least (where the vocabulary has them): below, matrix products get slow.
NARROWEST = {"cpu": 1024, "cuda": 4096}
# Bytes of logits that the forward pass leaves to the backward pass, which makes the others again: a fourth matrix
# product to the three that any head needs. Where products are cheap and memory is not, none.
KEPT_BYTES = {"cpu": 2**29, "cuda": 0}
# Of all logits, at most: memory stays below a quarter of what eager torch takes, which is five times all.
KEPT_SHARE = 0.875


@dataclass(frozen=True)
class Tiling:
    """``rows`` and ``columns`` of a tile, of ``tokens`` x ``vocabulary``; the first ``kept`` tiles' columns stay."""

    tokens: int
    vocabulary: int
    rows: int
    columns: int
    kept: int

    def row_blocks(self) -> Iterator[slice]:
        """Return the rows, tile by tile."""
        return blocks(self.tokens, self.rows)

    def column_blocks(self) -> Iterator[slice]:
        """Return the columns, tile by tile."""
        return blocks(self.vocabulary, self.columns)

    @property
    def tile(self) -> int:
        """Logits of the largest tile."""
        return min(self.rows, self.tokens) * min(self.columns, self.vocabulary)

    @property
    def kept_columns(self) -> int:
        """Columns of the logits that stay."""
        return min(self.kept * self.columns, self.vocabulary)


def cut(tokens: int, vocabulary: int, device: str, width: int = 4) -> Tiling:
    """Return the cut for a kind of device; a logit has ``width`` bytes."""
    kind = device if device in TILE else "cuda"
    columns = min(vocabulary, max(NARROWEST[kind], TILE[kind] // max(1, tokens)))
    rows = max(1, TILE[kind] // columns)
    bytes_kept = min(KEPT_BYTES[kind], KEPT_SHARE * width * vocabulary * tokens)
    return Tiling(tokens, vocabulary, rows, columns, int(bytes_kept / (width * columns * max(1, tokens))))


def blocks(length: int, size: int) -> Iterator[slice]:
    """Cut ``length`` into slices of ``size``."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype to accumulate in: at least float32."""
    return torch.promote_types(dtype, torch.float32)
