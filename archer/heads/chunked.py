"""Linear -> log-prob and entropy of completion tokens, without ever holding all logits.

N completion tokens, H hidden size, V vocabulary. The forward keeps the log-sum-exp, the backward makes the
logits again, chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**24  # logits held at once: 64 MiB in float32


class LogProbs(torch.autograd.Function):
    """log softmax(h W^T / T) at the targets, and the softmax's entropy, in float32 or wider."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        logp_N, entropy_N, lse_N = (hidden_NH.new_empty(len(target_N), dtype=wide(hidden_NH)) for _ in range(3))
        for rows in chunks(len(target_N), len(weight_VH)):
            logits_CV = scaled_logits(hidden_NH[rows], weight_VH, temperature)
            lse_N[rows] = logits_CV.logsumexp(-1)
            logp_N[rows] = logits_CV.gather(-1, target_N[rows, None])[:, 0] - lse_N[rows]
            prob_CV = (logits_CV - lse_N[rows, None]).exp_()
            entropy_N[rows] = lse_N[rows] - torch.linalg.vecdot(prob_CV, logits_CV)
        ctx.save_for_backward(hidden_NH, weight_VH, target_N, lse_N, entropy_N)
        ctx.temperature = temperature
        return logp_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        hidden_NH, weight_VH, target_N, lse_N, entropy_N = ctx.saved_tensors
        grad_logp_N, grad_entropy_N = grads
        grad_hidden_NH = torch.zeros_like(hidden_NH)
        grad_weight_VH = torch.zeros_like(weight_VH) if ctx.needs_input_grad[1] else None  # an adapter leaves it alone
        for rows in chunks(len(target_N), len(weight_VH)):
            logits_CV = scaled_logits(hidden_NH[rows], weight_VH, ctx.temperature)
            logp_CV = logits_CV.sub_(lse_N[rows, None])
            prob_CV = logp_CV.exp()
            # d logp_y / d z = 1_y - p;  d H / d z = -p (log p + H)
            slope_CV = logp_CV.add_(entropy_N[rows, None]).mul_(-grad_entropy_N[rows, None])
            slope_CV = slope_CV.sub_(grad_logp_N[rows, None]).mul_(prob_CV)
            slope_CV.scatter_add_(-1, target_N[rows, None], grad_logp_N[rows, None].to(slope_CV.dtype))
            slope_CV = slope_CV.div_(ctx.temperature).to(hidden_NH.dtype)
            grad_hidden_NH[rows] = slope_CV @ weight_VH.to(hidden_NH.dtype)
            if grad_weight_VH is not None:
                grad_weight_VH += (slope_CV.T @ hidden_NH[rows]).to(weight_VH.dtype)
        return grad_hidden_NH, grad_weight_VH, None, None


def log_probs(
    hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return log-probs (N,) of ``target_N`` and entropies (N,) in nats under softmax(h W^T / temperature).

    Both carry gradients to the hidden states and the weight.
    """
    logp_N, entropy_N = LogProbs.apply(hidden_NH, weight_VH, target_N, temperature)  # type: ignore[no-untyped-call]
    return logp_N, entropy_N


def chunks(rows: int, columns: int) -> Iterator[slice]:
    """Cut ``rows`` so that rows x columns stays within :data:`CHUNK_ELEMENTS`."""
    size = max(1, CHUNK_ELEMENTS // columns)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def scaled_logits(hidden_CH: Tensor, weight_VH: Tensor, temperature: float) -> Tensor:
    """Return logits / temperature (C, V), a fresh tensor in float32 or wider."""
    logits_CV = (hidden_CH @ weight_VH.T.to(hidden_CH.dtype)).to(wide(hidden_CH))
    return logits_CV.div_(temperature) if temperature != 1.0 else logits_CV


def wide(tensor: Tensor) -> torch.dtype:
    """Return the dtype to accumulate in: at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)
