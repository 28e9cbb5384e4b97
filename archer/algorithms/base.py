"""The interface of objectives, and the functions they share.

An objective is a frozen dataclass of its hyperparameters. Called with :class:`~archer.algorithms.tokens.Tokens`, it
returns an unreduced loss (B, T) and named columns to be averaged into metrics. An entry of ``ALGORITHMS`` adds the
advantage, the aggregation, the group filter and the length shaping.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from archer.algorithms.advantages import ADVANTAGES
from archer.algorithms.aggregation import AGGREGATIONS
from archer.algorithms.tokens import Tokens
from archer.errors import UserError, raised
from archer.parts import find_part
from archer.types import Rollout, Verdict

LOG_RATIO_BOUND = 20.0  # beyond it exp() overflows the gradient; as in verl
KL_BOUND = 10.0

Clip = tuple[float, float]  # (below, above): the ratio stays within 1 - below .. 1 + above
Bound = float | Tensor
Columns = dict[str, Tensor]
ColumnFunction = Callable[[Sequence[tuple[Rollout, Verdict]]], Sequence[Any]]


class Objective(Protocol):
    """A loss of a micro-batch: a frozen dataclass of hyperparameters that can be called.

    - ``needs``: names of the columns that it reads beside logp, old_logp, advantage and mask, of
      :data:`archer.algorithms.needs.SUPPLIED` or of its algorithm's ``columns``; nothing else is computed

    It may have four methods more:

    - ``skips(columns) -> bool``: whether a response of these columns, (T,) each, gets no forward pass, because its
      loss has no gradient. Without the method none is skipped. :func:`no_advantage` is the usual rule.
    - ``reads_reference(tokens) -> Tensor``: which tokens need reference log-probs, (B, T) bool; without it all do. It
      is asked before any update, with the old policy's columns.
    - ``masks(tokens) -> Mapping[str, Tensor]``: named kinds of tokens, (B, T) bool; each splits the metrics
    - ``over_step(tokens) -> Mapping[str, Tensor]``: columns from a statistic of all responses of the optimizer step.
      It is called before the step, with the current policy's log-probs of all of them (a second forward pass, without
      gradient); what it returns, (B, T), (B, 1) or (), comes along as ``tokens[name]``.
    """

    @property
    def needs(self) -> frozenset[str]: ...

    def __call__(self, tokens: Tokens) -> tuple[Tensor, Columns]: ...


@dataclass(frozen=True)
class Algorithm:
    """An objective with the other parts of its paper's algorithm.

    - ``advantage``: a name in ``ADVANTAGES``, ``module:NAME``, ``./file.py:NAME`` or a function; see
      :mod:`archer.algorithms.advantages`
    - ``aggregation``: how token losses are averaged, given alike; see :mod:`archer.algorithms.aggregation`
    - ``group_filter``: "none" trains on every group; "drop" removes groups without signal; "resample" replaces them by
      new ones (DAPO's dynamic sampling)
    - ``max_resample_rounds``: most rounds of "resample" per step
    - ``overlong_buffer``: last share of ``max_tokens`` over which a length penalty falls to -1 (0: no penalty)
    - ``overlong_filter``: excludes truncated responses from the loss
    - ``columns``: the algorithm's own columns by name. Each function gets a graded group, rollouts with their verdicts,
      and returns one array (T,) for each response; it is called where the objective or the advantage asks for the name
    """

    objective: Objective
    advantage: str | Callable[..., Tensor] = "zscore"
    aggregation: str | Callable[..., Tensor] = "token"
    group_filter: Literal["none", "drop", "resample"] = "none"
    max_resample_rounds: int = 9
    overlong_buffer: float = 0.0
    overlong_filter: bool = False
    columns: Mapping[str, ColumnFunction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.overlong_buffer <= 1:
            raise ValueError(f"overlong_buffer is a share of max_tokens, 0 to 1, found {self.overlong_buffer}")

    @property
    def advantage_function(self) -> Callable[..., Tensor]:
        """The advantage itself. Raises UserError where there is none of its name."""
        return named_part("advantages", self.advantage, ADVANTAGES)

    @property
    def aggregation_function(self) -> Callable[..., Tensor]:
        """The aggregation itself. Raises UserError where there is none of its name."""
        return named_part("aggregations", self.aggregation, AGGREGATIONS)

    @property
    def needs_reference(self) -> bool:
        """Whether a step has a forward pass of the reference."""
        return "ref_logp" in self.objective.needs

    @property
    def asks_groups(self) -> bool:
        """Whether the objective or the aggregation reads which group a response belongs to."""
        return "group" in self.objective.needs or "group_B" in extra_parameters(self.aggregation_function, 2)


def extra_parameters(function: Callable[..., Any], positional: int) -> tuple[str, ...]:
    """Return the names of the parameters after the first ``positional`` that have no default.

    A parameter with a default is a hyperparameter, and nothing is passed to it.
    """
    rest = list(inspect.signature(function).parameters.values())[positional:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(one.name for one in rest if one.kind in named and one.default is one.empty)


def named_part(
    kind: Literal["advantages", "aggregations"], part: str | Callable[..., Tensor],
    shipped: Mapping[str, Callable[..., Tensor]],
) -> Callable[..., Tensor]:  # fmt: skip
    """Return a part given by its name or as it is. Raises UserError where there is none of the name, or no function."""
    found = find_part(kind, part, shipped) if isinstance(part, str) else part
    if not callable(found):
        raise UserError(f"{kind}: {part}: expected a function, found {found!r:.80}")
    return found


def applied(what: str, function: Callable[..., Tensor], *arguments: Any, **more: Tensor) -> Tensor:
    """Return what a function of somebody's own makes. Raises UserError where it raises, or makes no finite tensor."""
    try:
        made = function(*arguments, **more)
    except UserError:
        raise
    except Exception as error:  # whatever it raises
        raise UserError(f"{what}: raised {raised(error)}") from error
    if not isinstance(made, Tensor):
        raise UserError(f"{what}: returned {made!r:.80}, expected a tensor")
    if not made.isfinite().all():
        raise UserError(f"{what}: returned values that are not finite, for {arguments[0]!r:.200}")
    return made


def no_advantage(columns: Mapping[str, Tensor]) -> bool:
    """Whether a response's advantage is 0 at all its tokens: the rule of losses that are proportional to it."""
    return not bool(columns["advantage"].any())


def skipped(objective: Objective, columns: Mapping[str, Tensor]) -> bool:
    """Whether a response with these columns, (T,) each, gets no forward pass."""
    rule: Callable[[Mapping[str, Tensor]], bool] | None = getattr(objective, "skips", None)
    return rule is not None and rule(columns)


def metric_masks(objective: Objective, tokens: Tokens) -> Mapping[str, Tensor]:
    """Return the objective's named kinds of tokens, (B, T) bool, by the suffix of the metrics that they split."""
    named: Callable[[Tokens], Mapping[str, Tensor]] | None = getattr(objective, "masks", None)
    return {} if named is None else named(tokens)


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
    entropy_BT = tokens["entropy"]
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
