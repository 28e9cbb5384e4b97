"""The columns that an objective reads. B responses, T response tokens (the longest), N tokens of an optimizer step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from archer.errors import did_you_mean


@dataclass(frozen=True)
class Tokens:
    """A micro-batch for an objective; columns are (B, T), log-probs and entropies in nats.

    The first five are always there, but for ``entropy_BT``; the others, and all of ``columns``, where the objective's
    ``needs`` name them. ``tokens["old_logp"]`` is ``tokens.old_logp_BT``, and ``tokens["reward"]`` a column without an
    attribute.

    - ``logp_BT``: log-probs of the current policy; carries the gradient
    - ``old_logp_BT``: log-probs at rollout
    - ``entropy_BT``: entropy at rollout ("entropy" in ``needs``), else of the current policy ("policy_entropy")
    - ``advantage_BT``: group-relative advantages, times importance weights if any
    - ``mask_BT``: False at padding and at responses excluded from the loss
    - ``ref_logp_BT``: reference log-probs ("ref_logp")
    - ``anchored_BT``: KL mask; where False the KL weight is 0 and ``ref_logp_BT`` is not computed
    - ``step_entropy_N``: entropies of the whole optimizer step, for quantiles that do not depend on micro-batches
      ("step_entropy")
    - ``columns``: all others by name
    """

    logp_BT: Tensor
    old_logp_BT: Tensor
    entropy_BT: Tensor | None
    advantage_BT: Tensor
    mask_BT: Tensor
    ref_logp_BT: Tensor | None = None
    anchored_BT: Tensor | None = None
    step_entropy_N: Tensor | None = None
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        """Return the column ``name``, (B, T). Raises KeyError where the objective did not ask for it."""
        column = self.columns.get(name)
        found: Tensor | None = getattr(self, f"{name}_BT", None) if column is None else column
        if found is None:
            attributes = ("logp", "old_logp", "entropy", "advantage", "mask", "ref_logp")
            known = {*self.columns, *(one for one in attributes if getattr(self, f"{one}_BT") is not None)}
            raise KeyError(f"no column {name!r} here{did_you_mean(name, known)}; name it in the objective's `needs`")
        return found
