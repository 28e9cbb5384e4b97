"""Group-relative advantages. P groups, G samples a group."""

from __future__ import annotations

from torch import Tensor

STD_EPSILON = 1e-6


def zscore(reward_PG: Tensor) -> Tensor:
    """(R - mean) / (std + 1e-6) within each group, unbiased std (GRPO, arXiv 2402.03300; ddof as in verl)."""
    centred_PG = centred(reward_PG)
    if reward_PG.shape[1] < 2:
        raise ValueError("a group of one sample has no standard deviation: use group size 2 or more")
    return centred_PG / (reward_PG.std(dim=1, keepdim=True) + STD_EPSILON)


def centred(reward_PG: Tensor) -> Tensor:
    """R - mean within each group, no scaling (Dr.GRPO, arXiv 2503.20783)."""
    return reward_PG - reward_PG.mean(dim=1, keepdim=True)


ADVANTAGES = {"zscore": zscore, "centred": centred}
