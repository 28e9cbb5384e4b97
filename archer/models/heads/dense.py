"""Log-prob and entropy of few tokens over a small vocabulary: all logits at once, in as few passes as possible.

N completion tokens, H hidden size, V vocabulary. Made for lab models, whose logits fit into the cache, where another
pass costs more than recomputing saves. Softmax and log softmax are kept for the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from archer.models.heads.products import factor, factor_dtype, multiply
from archer.models.heads.tiles import wide

DENSE = 2**22  # logits; two such tensors of float32 are 32 MiB


def fits(tokens: int, vocabulary: int) -> bool:
    """Return whether all N x V logits may be held at once."""
    return tokens * vocabulary <= DENSE


class DenseLogProbs(torch.autograd.Function):
    """As ``fused.LogProbs``, for N x V logits that may be held."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        factor_NH, factor_VH = hidden_NH.to(factor_dtype(hidden_NH)), factor(weight_VH, hidden_NH)
        logits_NV = hidden_NH.new_empty((len(hidden_NH), len(weight_VH)), dtype=wide(hidden_NH.dtype))
        multiply(factor_NH, factor_VH.T, logits_NV, 1.0 / temperature)
        logp_NV = torch.log_softmax(logits_NV, -1)
        prob_NV = logp_NV.exp()
        entropy_N = torch.mul(prob_NV, logp_NV, out=logits_NV).sum(-1).neg_()
        ctx.save_for_backward(hidden_NH, weight_VH, target_N, logp_NV, prob_NV, entropy_N)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return logp_NV.gather(1, target_N[:, None])[:, 0], entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_NH, weight_VH, target_N, logp_NV, prob_NV, entropy_N = ctx.saved_tensors
        grad_N, entropy_grad_N = grads
        if grad_N is None:
            grad_N = torch.zeros_like(entropy_N)
        # d logp_y / d z = 1_y - p;  d H / d z = -p (log p + H)
        if entropy_grad_N is None:
            slope_NV = prob_NV * -grad_N[:, None]
        else:
            down_N = torch.addcmul(grad_N, entropy_grad_N, entropy_N).neg_()
            slope_NV = torch.addcmul(down_N[:, None], logp_NV, entropy_grad_N[:, None], value=-1).mul_(prob_NV)
        slope_NV.scatter_add_(1, target_N[:, None], grad_N[:, None])
        slope_NV, scale = slope_NV.to(factor_dtype(hidden_NH)), 1.0 / ctx.temperature
        grad_NH = grad_VH = None
        if ctx.needs_input_grad[0]:
            sum_NH = torch.empty_like(hidden_NH, dtype=logp_NV.dtype)
            grad_NH = multiply(slope_NV, factor(weight_VH, hidden_NH), sum_NH, scale).to(hidden_NH.dtype)
        if ctx.needs_input_grad[1]:
            sum_VH = torch.empty_like(weight_VH, dtype=logp_NV.dtype)
            grad_VH = multiply(slope_NV.T, hidden_NH.to(slope_NV.dtype), sum_VH, scale).to(weight_VH.dtype)
        return grad_NH, grad_VH, None, None
