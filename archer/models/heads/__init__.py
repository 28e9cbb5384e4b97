"""Output heads: from hidden states to the log-probs and entropies of given tokens, and to logits for engines."""

from archer.models.heads.fused import log_probs
from archer.models.heads.products import logits

__all__ = ["log_probs", "logits"]
