"""The algorithms: a file each, all rows of one loss. To add one, add its file and its line here."""

from archer.algorithms import archer, dapo, grpo
from archer.algorithms.base import Algorithm, Objective

ALGORITHMS: dict[str, Algorithm] = {**grpo.ROWS, **dapo.ROWS, **archer.ROWS}

__all__ = ["ALGORITHMS", "Algorithm", "Objective"]
