"""From responses and their scores to the columns an objective reads, and which tokens it needs scored at all.

B responses, T tokens, N tokens of several responses, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from archer.algorithms import Algorithm
from archer.algorithms.tokens import Tokens
from archer.trainer.backend import Scores
from archer.trainer.batch import TrainSample, pad


def has_gradient(one: TrainSample, algorithm: Algorithm) -> bool:
    """Say whether a response can move the weights: every loss is 0 where neither an advantage nor the KL pulls."""
    return one.in_loss and (one.advantage != 0 or algorithm.objective.needs_reference)


def loss_columns(
    micro: Sequence[TrainSample], scores: Scores, algorithm: Algorithm, step_entropy_N: Tensor | None
) -> Tokens:
    """Return what the objective sees of the responses, scored by the policy as it is now."""
    logp_N, entropy_N = scores
    lengths = [len(one.tokens) for one in micro]
    device = logp_N.device
    policy = algorithm.objective.entropy == "policy"
    entropies = torch.split(entropy_N.detach(), lengths) if policy else [one.entropy_T for one in micro]
    mask_BT = pad([torch.full((len(one.tokens),), one.in_loss) for one in micro], device)
    references = [one.ref_logp_T for one in micro if one.ref_logp_T is not None]
    held = [one.kl_mask_T for one in micro if one.kl_mask_T is not None]
    return Tokens(
        logp_BT=pad(torch.split(logp_N, lengths), device),
        old_logp_BT=pad([one.old_logp_T for one in micro], device),
        entropy_BT=pad(entropies, device),
        advantage_BT=advantages(micro, mask_BT),
        mask_BT=mask_BT,
        ref_logp_BT=pad(references, device) if references else None,
        anchored_BT=pad(held, device) if held else None,
        step_entropy_N=step_entropy_N,
    )


def kl_masks(mini: Sequence[TrainSample], algorithm: Algorithm) -> list[Tensor]:
    """Return which tokens of each response the algorithm holds to the reference, (T,) bool.

    The objective is asked itself: where the reference's log-prob moves its loss, a KL weight is not zero. It knows
    before the pass, unless its gate reads the entropy of a policy that has moved by then: then all tokens may be.
    """
    old_N = torch.cat([one.old_logp_T for one in mini])
    entropies = [one.entropy_T for one in mini if one.in_loss]
    if algorithm.objective.entropy == "policy" or not entropies:
        return [torch.full((len(one.tokens),), one.in_loss) for one in mini]
    tokens = loss_columns(mini, (old_N, torch.zeros_like(old_N)), algorithm, torch.cat(entropies))
    apart_BT = (tokens.logp_BT + 1.0).requires_grad_()
    loss_BT, _ = algorithm.objective(replace(tokens, ref_logp_BT=apart_BT))
    (slope_BT,) = torch.autograd.grad(loss_BT.sum(), apart_BT)
    return [slope_T[: len(one.tokens)] != 0 for slope_T, one in zip(slope_BT * tokens.mask_BT, mini, strict=True)]


def advantages(micro: Sequence[TrainSample], mask_BT: Tensor) -> Tensor:
    """Return each response's advantage at its tokens, (B, T), weighed by ``correction_T`` where it has one."""
    device = mask_BT.device
    advantage_BT = torch.tensor([one.advantage for one in micro], device=device)[:, None].expand_as(mask_BT)
    if all(one.correction_T is None for one in micro):
        return advantage_BT
    weights = [torch.ones(len(one.tokens)) if one.correction_T is None else one.correction_T for one in micro]
    return advantage_BT * pad(weights, device)
