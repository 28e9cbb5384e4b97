"""Drawing tokens: one uniform number a token, from a stream that belongs to the sample alone.

S rows (sequences being sampled), V vocabulary, K likeliest tokens, C blocks of B tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from archer.engines.base import stream_key
from archer.types import Sampling

LARGE = 4096  # a vocabulary from here on is drawn from block by block
BLOCK = 256


def uniforms(seed: int, problem: str, sample: int, count: int) -> Tensor:
    """Return ``count`` uniform numbers in [0, 1), float32, that depend on nothing but the arguments."""
    stream = np.random.Generator(np.random.Philox(key=stream_key(seed, problem, sample)))
    return torch.from_numpy(stream.random(count, dtype=np.float32))


def draw(logits_SV: Tensor, uniform_S: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one token a row; return tokens (S,), their log-probs (S,) and the entropies (S,), in nats.

    Log-probs and entropies are of softmax(logits / temperature), before top-k and top-p cut it; at
    temperature 0 (greedy) they are of softmax(logits).
    """
    scaled_SV = logits_SV.float()
    if sampling.temperature not in (0.0, 1.0):
        scaled_SV = scaled_SV / sampling.temperature
    prob_SV = scaled_SV.softmax(-1)
    token_S = logits_SV.argmax(-1) if sampling.temperature == 0 else invert(truncate(prob_SV, sampling), uniform_S)
    logp_S = prob_SV.gather(-1, token_S[:, None])[:, 0].log()
    # The drawn token gives the log-sum-exp away: no pass over the vocabulary is made for it.
    lse_S = scaled_SV.gather(-1, token_S[:, None])[:, 0] - logp_S
    return token_S, logp_S, lse_S - torch.linalg.vecdot(prob_SV, scaled_SV)


def truncate(prob_SV: Tensor, sampling: Sampling) -> Tensor:
    """Zero what top-k and top-p leave out; rows are not renormalised (:func:`invert` does not need it)."""
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

    Of a large vocabulary blocks are summed first, and only the block that the target falls into is gone through.
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
    """Return the first index whose cumulative weight exceeds the target, (S,) int64; one of weight 0 never does."""
    # Rounding may carry a target to the very total, which nothing exceeds.
    below_S = torch.nextafter(cumulative_SV[:, -1], torch.zeros_like(target_S))
    target_S1 = torch.minimum(target_S, below_S)[:, None]
    return torch.searchsorted(cumulative_SV, target_S1, right=True)[:, 0]
