"""A plain LM head, its inputs and a loss, to compare the heads with."""

from __future__ import annotations

import torch
from torch import Tensor


def plain(hidden: Tensor, weight: Tensor, target: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    logp_NV = torch.log_softmax(hidden @ weight.T / temperature, dim=-1)
    return logp_NV.gather(1, target[:, None])[:, 0], -(logp_NV.exp() * logp_NV).sum(-1)


def inputs(
    tokens: int, size: int, vocabulary: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    hidden = torch.randn(tokens, size, dtype=torch.float64, generator=rng).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, size, dtype=torch.float64, generator=rng).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(0, vocabulary, (tokens,), generator=rng)


def loss(logp: Tensor, entropy: Tensor) -> Tensor:
    return (logp * torch.linspace(-1, 1, len(logp), dtype=logp.dtype)).sum() + (entropy * entropy).sum()
