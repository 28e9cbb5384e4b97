"""Group-relative advantages. P groups of the training step, G samples a group, T tokens of the longest response.

An advantage is a function of the rewards (P, G) to advantages of the same shape, or of each token, (P, G, T). What
else it reads, its other parameters name: ``score_PG`` (verdicts' scores, without a length penalty), ``passed_PG``,
``length_PG`` (tokens of a response), and ``mask_PGT`` (False at padding), ``old_logp_PGT``, ``entropy_PGT``,
``token_score_PGT`` or a column of the algorithm's own, 0 at padding. Parameters with a default are hyperparameters.
"""

from __future__ import annotations

from collections.abc import Callable

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


def process(reward_PG: Tensor, token_score_PGT: Tensor, mask_PGT: Tensor) -> Tensor:
    """Sum over this and later tokens of (score - mean) / (std + 1e-6), of all scored tokens of the group, (P, G, T).

    GRPO with process supervision (arXiv 2402.03300, section 4.1.3). A score of 0 is none: the token ends no step. The
    reward of the whole response is not read.
    """
    scored_PGT = mask_PGT & (token_score_PGT != 0)
    count_P = scored_PGT.sum((1, 2)).clamp_min(1)
    mean_P = (token_score_PGT * scored_PGT).sum((1, 2)) / count_P
    apart_PGT = (token_score_PGT - mean_P[:, None, None]) * scored_PGT
    std_P = (apart_PGT.square().sum((1, 2)) / (count_P - 1).clamp_min(1)).sqrt()
    scaled_PGT = apart_PGT / (std_P + STD_EPSILON)[:, None, None]
    return scaled_PGT.flip(2).cumsum(2).flip(2) * mask_PGT


ADVANTAGES: dict[str, Callable[..., Tensor]] = {"zscore": zscore, "centred": centred, "process": process}
