"""Peak memory of the LM head, for the plan of a run. N tokens, V vocabulary, H hidden size."""

from __future__ import annotations

from archer.models.heads.dense import fits
from archer.models.heads.tiles import cut

ROW = 4 * 12  # bytes per token: its target, sums, log-prob, entropy, and their gradients


def head_peak_bytes(tokens: int, vocabulary: int, size: int, inner: int, width: int, device: str) -> int:
    """Return the peak bytes of the LM head's forward and backward passes, both gradients included.

    The hidden states (``inner`` bytes per element, ``size`` elements) and the weight (``width`` bytes per element)
    are not counted. On a GPU bfloat16 is multiplied directly, on a CPU as float32 copies.
    """
    if fits(tokens, vocabulary):
        return dense(tokens, vocabulary, size, inner, width)
    tiling = cut(tokens, vocabulary, device)
    copied = inner != 4 and device == "cpu"
    factors = 4 * tokens * size if copied else 0
    factors += tiling.columns * size * (4 if copied else inner if width != inner else 0)
    turned = inner if device != "cpu" else 4
    tiles = (4 + turned) * tiling.tile + 4 * tokens * tiling.kept_columns
    hidden = tokens * size * (4 + (inner if inner != 4 else 0))
    direct = width == 4 or (tiling.rows >= tokens and width == inner and not copied)
    weight = width * vocabulary * size + (0 if direct else 4 * tiling.columns * size)
    return tiles + factors + hidden + weight + ROW * tokens


def dense(tokens: int, vocabulary: int, size: int, inner: int, width: int) -> int:
    """Return the peak bytes of the dense head: three N x V tensors, both gradients, and casts."""
    casts = size * ((tokens * inner if inner != 4 else 0) + (vocabulary * inner if width != inner else 0))
    rounded = vocabulary * size * width if width != 4 else 0
    return 4 * (3 * tokens * vocabulary + size * (tokens + vocabulary)) + casts + rounded + ROW * tokens
