"""Aggregation of token losses: a weight per response, for a weighted sum over the whole optimizer step.

B responses of the optimizer step. All tokens of a response have the same weight, so micro-batches, padding, packing
and ranks only add up. ``length_B`` is 0 where a response is excluded from the loss; ``longest`` is the most tokens that
a response may have. A function may ask for more by the names of its other parameters: ``group_B`` (int64) numbers the
responses' groups, ``signal_B`` (bool) is False where all advantages of a response are 0.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def token(length_B: Tensor, longest: int) -> Tensor:
    """1 / all tokens (DAPO, arXiv 2503.14476 Eq. 8; Archer, arXiv 2507.15778 Eq. 5)."""
    return length_B.gt(0).to(length_B.dtype) / length_B.sum().clamp_min(1)


def response(length_B: Tensor, longest: int) -> Tensor:
    """1 / (responses x own tokens): the mean of the responses' means (GRPO, arXiv 2402.03300)."""
    used_B = length_B.gt(0).to(length_B.dtype)
    return used_B / (used_B.sum().clamp_min(1) * length_B.clamp_min(1))


def constant(length_B: Tensor, longest: int) -> Tensor:
    """1 / (responses x ``longest``), whatever the length (Dr.GRPO, arXiv 2503.20783)."""
    used_B = length_B.gt(0).to(length_B.dtype)
    return used_B / (used_B.sum().clamp_min(1) * longest)


AGGREGATIONS: dict[str, Callable[..., Tensor]] = {"token": token, "response": response, "constant": constant}
