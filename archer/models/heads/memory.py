"""How many bytes the head holds at most, for the plan of a run. N tokens, V vocabulary, H hidden size."""

from __future__ import annotations

from archer.models.heads.dense import fits
from archer.models.heads.tiles import cut

ROW = 4 * 12  # what is known of a token: its target, sums, log-prob, entropy, and their gradients


def head_peak_bytes(tokens: int, vocabulary: int, size: int, inner: int, width: int, device: str) -> int:
    """Return the bytes beside hidden states of ``inner`` bytes a number and a weight of ``width``, both gradients in.

    On a GPU bfloat16 is multiplied as it is; on a CPU copies in float32 are.
    """
    if fits(tokens, vocabulary):
        return dense(tokens, vocabulary, size, inner, width)
    one = cut(tokens, vocabulary, device)
    copied = inner != 4 and device == "cpu"
    factors = 4 * tokens * size if copied else 0
    factors += one.columns * size * (4 if copied else inner if width != inner else 0)
    turned = inner if device != "cpu" else 4
    tiles = (4 + turned) * one.tile + 4 * tokens * one.kept_columns
    hidden = tokens * size * (4 + (inner if inner != 4 else 0))
    direct = width == 4 or (one.rows >= tokens and width == inner and not copied)
    weight = width * vocabulary * size + (0 if direct else 4 * one.columns * size)
    return tiles + factors + hidden + weight + ROW * tokens


def dense(tokens: int, vocabulary: int, size: int, inner: int, width: int) -> int:
    """Return the bytes of three N x V, of both gradients, and of what is cast."""
    casts = size * ((tokens * inner if inner != 4 else 0) + (vocabulary * inner if width != inner else 0))
    rounded = vocabulary * size * width if width != 4 else 0
    return 4 * (3 * tokens * vocabulary + size * (tokens + vocabulary)) + casts + rounded + ROW * tokens
