"""The columns that an objective reads. B responses, T response tokens (the longest), N tokens of an optimizer step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """A micro-batch for an objective; columns are (B, T), log-probs and entropies in nats.

    - ``logp_BT``: log-probs of the current policy; carries the gradient
    - ``old_logp_BT``: log-probs at rollout
    - ``entropy_BT``: entropy at rollout or of the current policy, by the objective's ``entropy``; without gradient
    - ``advantage_BT``: group-relative advantages, times importance weights if any
    - ``mask_BT``: False at padding and at responses excluded from the loss
    - ``ref_logp_BT``: reference log-probs, None unless the objective needs them
    - ``anchored_BT``: KL mask; where False the KL weight is 0 and ``ref_logp_BT`` is not computed
    - ``step_entropy_N``: entropies of the whole optimizer step, for quantiles that do not depend on micro-batches
    """

    logp_BT: Tensor
    old_logp_BT: Tensor
    entropy_BT: Tensor
    advantage_BT: Tensor
    mask_BT: Tensor
    ref_logp_BT: Tensor | None = None
    anchored_BT: Tensor | None = None
    step_entropy_N: Tensor | None = None
