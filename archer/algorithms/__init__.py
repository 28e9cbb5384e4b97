"""Algorithms: one file per loss with all algorithms that use it, in torch alone.

In: ``Tokens``, the columns of a micro-batch. Out: an unreduced loss (B, T) and columns for metrics. May use: nothing
of the other rooms. To add one, add its file and its line here.
"""

from archer.algorithms import archer, dapo, grpo
from archer.algorithms.base import Algorithm, Objective

ALGORITHMS: dict[str, Algorithm] = {**grpo.ROWS, **dapo.ROWS, **archer.ROWS}

__all__ = ["ALGORITHMS", "Algorithm", "Objective", "algorithms"]


def algorithms() -> dict[str, Algorithm]:
    """Return the shipped algorithms by name: objective, advantage, aggregation, group filter, length shaping."""
    return dict(ALGORITHMS)
