"""The columns that an objective reads. B responses, T response tokens (the longest), N tokens of an optimizer step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """What an objective sees of a micro-batch; every column is (B, T), padded where ``mask_BT`` is False.

    ``logp_BT`` carries the gradient. ``entropy_BT`` is the entropy that gates read: that of the policy at
    rollout, or of the current policy, as the objective's ``entropy`` field says; never with a gradient.
    ``ref_logp_BT`` is absent unless the objective needs a reference; where ``anchored_BT`` is False its KL weight is
    zero, and nobody asked for the reference's log-prob. ``step_entropy_N`` holds the
    entropies of the whole optimizer step, so that a batch-level quantile does not depend on the split.
    """

    logp_BT: Tensor
    old_logp_BT: Tensor
    entropy_BT: Tensor
    advantage_BT: Tensor
    mask_BT: Tensor
    ref_logp_BT: Tensor | None = None
    anchored_BT: Tensor | None = None
    step_entropy_N: Tensor | None = None
