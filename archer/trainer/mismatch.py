"""Where the engine and the policy disagree: how far, what is done about it, and when it is too far to go on.

An engine with kernels of its own, or with weights one step older, samples from a distribution pi_engine that is not
quite the policy's. d = log pi_policy - log pi_engine of every sampled token, w = exp d its importance weight.
T tokens of a response, N tokens of a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from archer.algorithms.base import LOG_RATIO_BOUND
from archer.errors import EngineError
from archer.recipe.sections import CorrectionSection
from archer.trainer.batch import Group, TrainSample

LARGEST = "mismatch/largest"


def measure_mismatch(groups: Sequence[Group]) -> dict[str, float]:
    """Return k1, k3 (means over tokens, of KL(pi_engine || pi_policy)) and the largest ratio either way.

    Nothing where the engine's log-probs are the policy's own.
    """
    parts = [logp_diff(one) for group in groups for one in group if one.engine_logp_T is not None]
    return mismatch_metrics(torch.cat(parts)) if parts else {}


def mismatch_metrics(gap_N: Tensor) -> dict[str, float]:
    """Return the metrics of log-prob differences (N,), policy's less engine's."""
    if not len(gap_N):
        return {}
    gap_N = gap_N.double()
    bounded_N = gap_N.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    return {
        "mismatch/k1": float(-gap_N.mean()),
        "mismatch/k3": float((bounded_N.exp() - bounded_N - 1).mean()),
        LARGEST: float(gap_N.abs().max().clamp(max=LOG_RATIO_BOUND).exp()),
    }


def check_mismatch(metrics: Mapping[str, float], correction: CorrectionSection, step: int) -> str:
    """Return what to warn of, nothing where all is well.

    Raises EngineError where the mean k3 passes ``correction.stop``: what is sampled is not what is trained.
    """
    k3 = metrics.get("mismatch/k3", 0.0)
    said = (
        f"step {step}: engine and policy disagree: k3 {k3:.2e} a token, largest ratio {metrics.get(LARGEST, 1.0):.3g}"
    )
    if not k3 <= correction.stop:  # a NaN stops too
        raise EngineError(
            f"{said}, above rollout.correction.stop {correction.stop:g}; the engine has other weights than the policy, "
            "or another chat template, dtype or temperature; nothing of this step is kept"
        )
    return f"{said}, above rollout.correction.warn {correction.warn:g}" if k3 > correction.warn else ""


def apply_importance_weights(groups: Sequence[Group], correction: CorrectionSection) -> list[Group]:
    """Return the groups with a weight on every token's advantage, as ``correction`` says."""
    if correction.kind == "none":
        return list(groups)
    return [tuple(replace(one, correction_T=importance_weights(one, correction)) for one in group) for group in groups]


def importance_weights(one: TrainSample, correction: CorrectionSection) -> Tensor:
    """Return the importance weight of every token, (T,)."""
    gap_T = logp_diff(one)
    if correction.level == "sequence":
        gap_T = gap_T.sum().expand_as(gap_T)
    ratio_T = gap_T.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()
    if correction.kind == "truncate":
        return ratio_T.clamp(max=correction.high)
    kept_T = ratio_T <= correction.high
    if correction.kind == "icepop":
        kept_T &= ratio_T >= correction.low
    return torch.where(kept_T, ratio_T, 0.0)


def logp_diff(one: TrainSample) -> Tensor:
    """Return log pi_policy - log pi_engine of every token, (T,); zeros where the engine's are the policy's own."""
    old_logp_T = one.old_logp_T
    return torch.zeros_like(old_logp_T) if one.engine_logp_T is None else old_logp_T - one.engine_logp_T
