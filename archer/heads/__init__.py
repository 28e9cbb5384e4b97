"""Output heads: hidden states to the log-probs and entropies of given tokens."""

from archer.heads.chunked import log_probs

__all__ = ["log_probs"]
