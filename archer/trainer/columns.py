"""From responses and their scores to the columns that an objective reads; KL masks.

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


def has_gradient(sample: TrainSample, algorithm: Algorithm) -> bool:
    """Whether a response can change the weights: its loss is constant without an advantage and a KL term."""
    return sample.in_loss and (sample.advantage != 0 or algorithm.objective.needs_reference)


def loss_columns(
    micro: Sequence[TrainSample], scores: Scores, algorithm: Algorithm, step_entropy_N: Tensor | None
) -> Tokens:
    """Return the objective's columns of the responses, given the ``scores`` of the current policy."""
    logp_N, entropy_N = scores
    lengths = [len(sample.tokens) for sample in micro]
    device = logp_N.device
    policy = algorithm.objective.entropy == "policy"
    entropies = torch.split(entropy_N.detach(), lengths) if policy else [sample.entropy_T for sample in micro]
    mask_BT = pad([torch.full((len(sample.tokens),), sample.in_loss) for sample in micro], device)
    references = [sample.ref_logp_T for sample in micro if sample.ref_logp_T is not None]
    masks = [sample.kl_mask_T for sample in micro if sample.kl_mask_T is not None]
    return Tokens(
        logp_BT=pad(torch.split(logp_N, lengths), device),
        old_logp_BT=pad([sample.old_logp_T for sample in micro], device),
        entropy_BT=pad(entropies, device),
        advantage_BT=advantages(micro, mask_BT),
        mask_BT=mask_BT,
        ref_logp_BT=pad(references, device) if references else None,
        anchored_BT=pad(masks, device) if masks else None,
        step_entropy_N=step_entropy_N,
    )


def kl_masks(mini: Sequence[TrainSample], algorithm: Algorithm) -> list[Tensor]:
    """Return the KL mask of each response, (T,) bool: the tokens that need reference log-probs.

    A token needs one if the gradient of the objective's loss with respect to it is not zero. If the objective reads
    entropies of the current policy, which are not known yet, all tokens in the loss need one.
    """
    old_N = torch.cat([sample.old_logp_T for sample in mini])
    entropies = [sample.entropy_T for sample in mini if sample.in_loss]
    if algorithm.objective.entropy == "policy" or not entropies:
        return [torch.full((len(sample.tokens),), sample.in_loss) for sample in mini]
    tokens = loss_columns(mini, (old_N, torch.zeros_like(old_N)), algorithm, torch.cat(entropies))
    apart_BT = (tokens.logp_BT + 1.0).requires_grad_()
    loss_BT, _ = algorithm.objective(replace(tokens, ref_logp_BT=apart_BT))
    (slope_BT,) = torch.autograd.grad(loss_BT.sum(), apart_BT)
    return [slope_T[: len(sample.tokens)] != 0 for slope_T, sample in zip(slope_BT * tokens.mask_BT, mini, strict=True)]


def advantages(micro: Sequence[TrainSample], mask_BT: Tensor) -> Tensor:
    """Return each response's advantage at its tokens, (B, T), times its importance weights, if any."""
    device = mask_BT.device
    advantage_BT = torch.tensor([sample.advantage for sample in micro], device=device)[:, None].expand_as(mask_BT)
    if all(sample.correction_T is None for sample in micro):
        return advantage_BT
    weights = [
        torch.ones(len(sample.tokens)) if sample.correction_T is None else sample.correction_T for sample in micro
    ]
    return advantage_BT * pad(weights, device)
