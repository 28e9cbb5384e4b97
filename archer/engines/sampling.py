"""Sampling tokens by inverse transform: one uniform number per token, from the sample's own random stream.

S rows (sequences being sampled), V vocabulary, K likeliest tokens, C blocks of B tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from archer.engines.base import stream_key
from archer.types import Sampling

LARGE = 4096  # vocabularies of this size or more are searched block by block
BLOCK = 256


def uniforms(seed: int, problem: str, sample: int, count: int) -> Tensor:
    """Return ``count`` float32 uniform numbers in [0, 1), determined by the arguments alone."""
    stream = np.random.Generator(np.random.Philox(key=stream_key(seed, problem, sample)))
    return torch.from_numpy(stream.random(count, dtype=np.float32))


def draw(logits_SV: Tensor, uniform_S: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    """Sample one token per row; return tokens (S,), their log-probs (S,) and the entropies (S,), in nats.

    Log-probs and entropies are of softmax(logits / temperature), before top-k and top-p cut it; at
    temperature 0 (greedy) they are of softmax(logits).
    """
    scaled_SV = logits_SV.float()
    if sampling.temperature not in (0.0, 1.0):
        scaled_SV = scaled_SV / sampling.temperature
    prob_SV = scaled_SV.softmax(-1)
    token_S = logits_SV.argmax(-1) if sampling.temperature == 0 else invert(truncate(prob_SV, sampling), uniform_S)
    logp_S = prob_SV.gather(-1, token_S[:, None])[:, 0].log()
    # logit - log-prob of the token is the log-sum-exp: this saves a pass over the vocabulary.
    lse_S = scaled_SV.gather(-1, token_S[:, None])[:, 0] - logp_S
    return token_S, logp_S, lse_S - torch.linalg.vecdot(prob_SV, scaled_SV)


def truncate(prob_SV: Tensor, sampling: Sampling) -> Tensor:
    """Zero the tokens that top-k and top-p exclude; rows are not renormalised, as :func:`invert` does not need it."""
    vocabulary = prob_SV.shape[-1]
    likeliest = min(sampling.top_k, vocabulary) or vocabulary
    if likeliest == vocabulary and sampling.top_p >= 1.0:
        return prob_SV
    ordered_SK, order_SK = prob_SV.topk(likeliest, dim=-1)
    if sampling.top_p < 1.0:  # the token that crosses top_p stays, so at least one does
        ordered_SK = ordered_SK * (ordered_SK.cumsum(-1) - ordered_SK < sampling.top_p)
    return torch.zeros_like(prob_SV).scatter_(-1, order_SK, ordered_SK)


def invert(weight_SV: Tensor, uniform_S: Tensor) -> Tensor:
    """Return the first index whose cumulative weight exceeds ``uniform`` of the row's total, (S,) int64.

    In a large vocabulary, sums over blocks find the block first, and then only that block is searched.
    """
    rows, vocabulary = weight_SV.shape
    whole = vocabulary // BLOCK * BLOCK
    if vocabulary < LARGE:
        return first_above(weight_SV.cumsum(-1), uniform_S * weight_SV.sum(-1))
    block_SCB = weight_SV[:, :whole].view(rows, -1, BLOCK)
    end_SB = pad(weight_SV[:, whole:], (0, BLOCK - (vocabulary - whole)))
    cumulative_SC = torch.cat([block_SCB.sum(-1), end_SB.sum(-1, keepdim=True)], 1).cumsum(-1)
    target_S = uniform_S * cumulative_SC[:, -1]
    block_S = first_above(cumulative_SC, target_S)
    before_S = pad(cumulative_SC, (1, 0)).gather(1, block_S[:, None])[:, 0]
    row_S = torch.arange(rows, device=weight_SV.device)
    last_S = block_S == cumulative_SC.shape[1] - 1
    inside_SB = block_SCB[row_S, (block_S - last_S.long())].where(~last_S[:, None], end_SB)
    return block_S * BLOCK + first_above(inside_SB.cumsum(-1), target_S - before_S)


def first_above(cumulative_SV: Tensor, target_S: Tensor) -> Tensor:
    """Return the first index whose cumulative weight exceeds the target, (S,) int64; never one of weight 0."""
    # Rounding may raise a target to the total, which no cumulative weight exceeds.
    below_S = torch.nextafter(cumulative_SV[:, -1], torch.zeros_like(target_S))
    target_S1 = torch.minimum(target_S, below_S)[:, None]
    return torch.searchsorted(cumulative_SV, target_S1, right=True)[:, 0]
