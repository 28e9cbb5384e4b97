"""DAPO (arXiv 2503.14476): GRPO's loss with clip-higher, a token mean, dynamic sampling, overlong shaping."""

from __future__ import annotations

from archer.algorithms.base import Algorithm
from archer.algorithms.grpo import Grpo

ROWS = {
    "dapo": Algorithm(
        Grpo(clip=(0.2, 0.28), kl_weight=0.0, dual_clip=10.0),
        aggregation="token",
        group_filter="resample",
        overlong_buffer=0.2,
    ),
}
