"""Train and test sets that are disjoint by construction: a hash of the problem decides its side."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random

TEST_SHARE = 8  # one problem in eight belongs to the test split


def side(name: str, key: str) -> str:
    """Return the split ("train" or "test") that the problem ``key`` of task ``name`` belongs to."""
    digest = hashlib.sha256(f"{name}:{key}".encode()).digest()
    return "test" if digest[0] % TEST_SHARE == 0 else "train"


def draw(name: str, split: str, index: int, make: Callable[[Random], str]) -> str:
    """Draw keys with ``make`` from a stream of (name, split, index) until one falls into ``split``."""
    if split not in ("train", "test"):
        raise ValueError(f"{name}: unknown split {split!r} (known: train, test)")
    rng = Random(f"{name}/{split}/{index}")
    while True:
        key = make(rng)
        if side(name, key) == split:
            return key
