"""How N x V logits are cut into tiles, and how many of them are held at once.

N tokens, V vocabulary, H hidden size, R rows and C columns of a tile. Columns are the outer loop: the weight is
read once, and a tile of its gradient is complete before the next begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

# Logits of a tile. On a CPU smaller tiles stay in the second-level cache, which saves 2 % on an idle machine; but if
# another process wants a core, every pass over a tile ends with a wait, and fewer passes are several times as fast.
TILE = {"cpu": 2**22, "cuda": 2**24}
# Columns of a tile at least (if the vocabulary has as many): with fewer, matrix products are slow.
NARROWEST = {"cpu": 1024, "cuda": 4096}
# Bytes of logits that the forward pass keeps for the backward pass, which recomputes the others by a fourth matrix
# product beside the three that any head needs. On a GPU, where products are cheaper than memory, none are kept.
KEPT_BYTES = {"cpu": 2**29, "cuda": 0}
# Share of all logits kept at most: memory stays below a quarter of eager torch's, which is five times all logits.
KEPT_SHARE = 0.875


@dataclass(frozen=True)
class Tiling:
    """``tokens`` x ``vocabulary`` logits in tiles of ``rows`` x ``columns``; the first ``kept`` tiles stay."""

    tokens: int
    vocabulary: int
    rows: int
    columns: int
    kept: int

    def row_blocks(self) -> Iterator[slice]:
        """Yield the rows of each tile."""
        return blocks(self.tokens, self.rows)

    def column_blocks(self) -> Iterator[slice]:
        """Yield the columns of each tile."""
        return blocks(self.vocabulary, self.columns)

    @property
    def tile(self) -> int:
        """Logits of the largest tile."""
        return min(self.rows, self.tokens) * min(self.columns, self.vocabulary)

    @property
    def kept_columns(self) -> int:
        """Columns of the logits that are kept for the backward pass."""
        return min(self.kept * self.columns, self.vocabulary)


def cut(tokens: int, vocabulary: int, device: str, width: int = 4) -> Tiling:
    """Return the tiling for a kind of device, such as "cpu"; a logit has ``width`` bytes."""
    kind = device if device in TILE else "cuda"
    columns = min(vocabulary, max(NARROWEST[kind], TILE[kind] // max(1, tokens)))
    rows = max(1, TILE[kind] // columns)
    bytes_kept = min(KEPT_BYTES[kind], KEPT_SHARE * width * vocabulary * tokens)
    return Tiling(tokens, vocabulary, rows, columns, int(bytes_kept / (width * columns * max(1, tokens))))


def blocks(length: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` that cover ``length``."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype to accumulate in: at least float32."""
    return torch.promote_types(dtype, torch.float32)
