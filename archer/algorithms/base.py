"""The interface of objectives, and the functions they share.

An objective is a frozen dataclass of its hyperparameters. Called with :class:`~archer.algorithms.tokens.Tokens`, it
returns an unreduced loss (B, T) and named columns to be averaged into metrics. An entry of ``ALGORITHMS`` adds the
advantage, the aggregation, the group filter and the length shaping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from archer.algorithms.tokens import Tokens

LOG_RATIO_BOUND = 20.0  # beyond it exp() overflows the gradient; as in verl
KL_BOUND = 10.0

Clip = tuple[float, float]  # (below, above): the ratio stays within 1 - below .. 1 + above
Bound = float | Tensor
Columns = dict[str, Tensor]


class Objective(Protocol):
    """A policy-gradient loss.

    - ``entropy``: whether gates read the entropy at rollout or that of the current policy
    - ``needs_reference``: whether the loss has a KL term

    Without a reference, a response with advantage 0 must have loss 0, because it gets no forward pass.
    """

    @property
    def entropy(self) -> Literal["rollout", "policy"]: ...

    @property
    def needs_reference(self) -> bool: ...

    def __call__(self, tokens: Tokens) -> tuple[Tensor, Columns]: ...


@dataclass(frozen=True)
class Algorithm:
    """An objective with the other parts of its paper's algorithm.

    - ``advantage``: the normalisation of rewards within a group
    - ``aggregation``: how token losses are averaged
    - ``group_filter``: "none" trains on every group; "drop" removes groups whose samples are all right or all wrong;
      "resample" replaces them by new ones (DAPO's dynamic sampling)
    - ``max_resample_rounds``: most rounds of "resample" per step
    - ``overlong_buffer``: last share of ``max_tokens`` over which a length penalty falls to -1 (0: no penalty)
    - ``overlong_filter``: excludes truncated responses from the loss
    """

    objective: Objective
    advantage: Literal["zscore", "centred"] = "zscore"
    aggregation: Literal["token", "response", "constant"] = "token"
    group_filter: Literal["none", "drop", "resample"] = "none"
    max_resample_rounds: int = 9
    overlong_buffer: float = 0.0
    overlong_filter: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlong_buffer <= 1:
            raise ValueError(f"overlong_buffer is a share of max_tokens, 0 to 1, found {self.overlong_buffer}")


def ratio(tokens: Tokens) -> Tensor:
    """pi / pi_old of every token, (B, T)."""
    return (tokens.logp_BT - tokens.old_logp_BT).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()


def clipped_surrogate(tokens: Tokens, below: Bound, above: Bound, dual: float | None = None) -> tuple[Tensor, Tensor]:
    """Return min(r A, clip(r, 1 - below, 1 + above) A), and where the clip changed it; both (B, T).

    With ``dual`` = c, the first is at least c A where A < 0 (dual clip, Ye et al. 2020, arXiv 1912.09729).
    """
    advantage_BT = tokens.advantage_BT
    ratio_BT = ratio(tokens)
    low_BT, high_BT = (torch.as_tensor(bound, dtype=ratio_BT.dtype) for bound in (1.0 - below, 1.0 + above))
    free_BT = ratio_BT * advantage_BT
    bound_BT = torch.minimum(torch.maximum(ratio_BT, low_BT), high_BT) * advantage_BT
    surrogate_BT = torch.minimum(free_BT, bound_BT)
    clipped_BT = bound_BT < free_BT
    if dual is not None:
        floor_BT = dual * advantage_BT
        negative_BT = advantage_BT < 0
        clipped_BT = clipped_BT | (negative_BT & (surrogate_BT < floor_BT))
        surrogate_BT = torch.where(negative_BT, torch.maximum(surrogate_BT, floor_BT), surrogate_BT)
    return surrogate_BT, clipped_BT


def kl(tokens: Tokens, estimator: str) -> Tensor:
    """KL(pi || pi_ref) of every token by the named estimator, (B, T)."""
    if tokens.ref_logp_BT is None:
        raise ValueError("this objective needs reference log-probs, and none were computed")
    delta_BT = (tokens.ref_logp_BT - tokens.logp_BT).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    return ESTIMATORS[estimator](delta_BT)


def k1(delta: Tensor) -> Tensor:
    """-(log pi_ref - log pi): unbiased, may be negative."""
    return -delta


def k2(delta: Tensor) -> Tensor:
    """Half the squared log-ratio."""
    return delta.square() / 2


def k3(delta: Tensor) -> Tensor:
    """exp(d) - d - 1: unbiased and never negative (Schulman 2020; verl's ``low_var_kl``)."""
    return (delta.exp() - delta - 1).clamp(-KL_BOUND, KL_BOUND)


ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}
Estimator = Literal["k1", "k2", "k3"]


def above_quantile(tokens: Tokens, quantile: float, *, scope: str = "response", strict: bool = False) -> Tensor:
    """Return which tokens' entropy reaches the ``quantile`` of the response or of the whole step, (B, T) bool.

    Quantiles are interpolated linearly; ``strict`` excludes entropies equal to the threshold.
    """
    entropy_BT = tokens.entropy_BT
    if scope == "batch":
        if tokens.step_entropy_N is None:
            raise ValueError("a batch-level quantile needs the entropies of the whole step")
        threshold = step_quantile(tokens.step_entropy_N, quantile)
    else:
        known_BT = entropy_BT.masked_fill(~tokens.mask_BT, torch.nan)
        threshold = known_BT.nanquantile(quantile, dim=1, keepdim=True)
    reached_BT = entropy_BT > threshold if strict else entropy_BT >= threshold
    return reached_BT & tokens.mask_BT


def step_quantile(entropy_N: Tensor, quantile: float) -> Tensor:
    """The linear-interpolation quantile, by sorting: ``torch.quantile`` refuses more than 16M elements."""
    ordered_N = entropy_N.sort().values
    rank = quantile * (len(ordered_N) - 1)
    low, high = int(rank), min(int(rank) + 1, len(ordered_N) - 1)
    return torch.lerp(ordered_N[low], ordered_N[high], rank - low)
