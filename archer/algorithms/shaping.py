"""Reward terms and metrics of a response's length and repetition."""

from __future__ import annotations


def overlong_penalty(length: int, max_length: int, buffer: int) -> float:
    r"""Return DAPO's soft overlong punishment (arXiv 2503.14476, Eq. 13).

        0                                      length <= max_length - buffer
        (max_length - buffer - length)/buffer  in between
        -1                                     length > max_length

    Lengths in tokens. Raises ValueError unless 0 < buffer <= max_length.
    """
    if not 0 < buffer <= max_length:
        raise ValueError(f"buffer: expected 1 to max_length ({max_length}), found {buffer}")
    return -min(max(length - (max_length - buffer), 0) / buffer, 1.0)


def repetition_ratio(text: str, n: int = 20) -> float:
    """Return the share of word-level n-grams that already occurred earlier in the text.

    Words are lower-cased and split at whitespace; 0 for a text of fewer than ``n`` words. The released
    Archer code counts 20-grams (the paper does not state n). Raises ValueError when ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"n: expected at least 1, found {n}")
    words = text.lower().split()
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
