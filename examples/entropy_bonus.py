"""An algorithm of one's own: GRPO's surrogate with an entropy bonus that fades along the response.

Two things that no shipped algorithm has: a column of its own (`fade`), and a gradient through the entropy. Run it from
any folder (about half a minute on two cores), or name it in a recipe:

    archer compare --set 'algorithms={grpo: {}, mine: {base: ./entropy_bonus.py:ENTROPY_BONUS}}'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

import archer
from archer.algorithms import Algorithm
from archer.algorithms.base import Columns, clipped_surrogate
from archer.algorithms.tokens import Tokens
from archer.testing import check_algorithm
from archer.types import Rollout, Verdict


@dataclass(frozen=True)
class EntropyBonus:
    """-min(r A, clip(r) A) - weight x fade x entropy, with fade falling from 1 to 0 over the response."""

    clip: tuple[float, float] = (0.2, 0.2)
    weight: float = 0.003

    @property
    def needs(self) -> frozenset[str]:
        """The entropy of the current policy with its gradient, and the column below."""
        return frozenset({"entropy_gradient", "fade"})

    def __call__(self, tokens: Tokens) -> tuple[Tensor, Columns]:
        """Return the unreduced loss (B, T), and the columns that become the metrics `clip` and `bonus`."""
        surrogate_BT, clipped_BT = clipped_surrogate(tokens, *self.clip)
        bonus_BT = self.weight * tokens["fade"] * tokens["policy_entropy"]
        return -surrogate_BT - bonus_BT, {"clip": clipped_BT, "bonus": bonus_BT}


def fade(group: Sequence[tuple[Rollout, Verdict]]) -> list[np.ndarray]:
    """Return for each response of a group 1 at its first token, falling to 0 at its last."""
    return [np.linspace(1.0, 0.0, len(rollout.tokens)) for rollout, _ in group]


ENTROPY_BONUS = Algorithm(EntropyBonus(), columns={"fade": fade})


def main(changes: Sequence[str] = ("steps=3", "rollout.prompts=8", "evaluate.benchmarks=[]")) -> Mapping[str, float]:
    """Check the algorithm, train three steps with it, and return the last step's metrics."""
    check_algorithm(ENTROPY_BONUS)  # invariant to micro-batches, padding, packing and order; skips nothing that trains
    run = archer.train("lab", ENTROPY_BONUS, out="runs/entropy-bonus", changes=changes)
    print(run.metrics[["reward", "bonus", "clip", "rollout_entropy"]])
    last: Mapping[str, float] = run.metrics.iloc[-1].to_dict()
    return last


if __name__ == "__main__":
    main()
