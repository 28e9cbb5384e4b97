"""Drawing tokens: one uniform number a token, from a stream that belongs to the sample alone.

S rows (sequences being sampled), V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from archer.engines.base import stream_key
from archer.types import Sampling


def uniforms(seed: int, problem: str, sample: int, count: int) -> Tensor:
    """Return ``count`` uniform numbers in [0, 1), float32, that depend on nothing but the arguments."""
    stream = np.random.Generator(np.random.Philox(key=stream_key(seed, problem, sample)))
    return torch.from_numpy(stream.random(count, dtype=np.float32))


def draw(logits_SV: Tensor, uniform_S: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one token a row; return tokens (S,), their log-probs (S,) and the entropies (S,), in nats.

    Log-probs and entropies are of softmax(logits / temperature), before top-k and top-p cut it; at
    temperature 0 (greedy) they are of softmax(logits).
    """
    scaled_SV = logits_SV.float() / (sampling.temperature or 1.0)
    logp_SV = torch.log_softmax(scaled_SV, dim=-1)
    prob_SV = logp_SV.exp()
    entropy_S = -(prob_SV * logp_SV).sum(-1)
    token_S = logits_SV.argmax(-1) if sampling.temperature == 0 else invert(truncate(prob_SV, sampling), uniform_S)
    return token_S, logp_SV.gather(-1, token_S[:, None])[:, 0], entropy_S


def truncate(prob_SV: Tensor, sampling: Sampling) -> Tensor:
    """Zero what top-k and top-p leave out; rows are not renormalised (:func:`invert` does not need it)."""
    if not sampling.top_k and sampling.top_p >= 1.0:
        return prob_SV
    ordered_SV, order_SV = prob_SV.sort(dim=-1, descending=True)
    keep_SV = torch.ones_like(ordered_SV, dtype=torch.bool)
    if sampling.top_k:
        keep_SV[:, sampling.top_k :] = False
    if sampling.top_p < 1.0:  # the token that crosses top_p stays, so at least one does
        keep_SV &= ordered_SV.cumsum(-1) - ordered_SV < sampling.top_p
    return torch.zeros_like(prob_SV).scatter(-1, order_SV, ordered_SV * keep_SV)


def invert(weight_SV: Tensor, uniform_S: Tensor) -> Tensor:
    """Return the first index whose cumulative weight exceeds ``uniform`` of the row's total, (S,) int64."""
    cumulative_SV = weight_SV.cumsum(-1)
    target_S1 = uniform_S[:, None] * cumulative_SV[:, -1:]
    index_S = torch.searchsorted(cumulative_SV, target_S1, right=True)[:, 0]
    # Rounding may carry the target to the very total: fall back on the last token with any weight.
    last_S = weight_SV.shape[-1] - 1 - (weight_SV > 0).flip(-1).int().argmax(-1)
    return torch.minimum(index_S, last_S)
