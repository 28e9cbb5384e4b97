"""Mismatch between engine and policy: its metrics, its limits, and importance weights that correct for it.

An engine with its own kernels, or with weights one step older, samples from a distribution pi_engine that differs
slightly from the policy's. d = log pi_policy - log pi_engine of a sampled token, w = exp d its importance weight.
T tokens of a response, N tokens of a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from archer.algorithms.base import LOG_RATIO_BOUND
from archer.errors import EngineError
from archer.recipe.sections import CorrectionSection
from archer.trainer.batch import Group, TrainSample

LARGEST = "mismatch/largest"


def measure_mismatch(groups: Sequence[Group]) -> dict[str, float]:
    """Return the KL(pi_engine || pi_policy) estimates k1 and k3 (means over tokens), and the largest ratio.

    {} if the engine's log-probs are the policy's own.
    """
    parts = [logp_diff(sample) for group in groups for sample in group if "engine_logp" in sample.columns]
    return mismatch_metrics(torch.cat(parts)) if parts else {}


def mismatch_metrics(gap_N: Tensor) -> dict[str, float]:
    """Return the metrics of log-prob differences (N,), policy minus engine, in nats."""
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
    """Return a warning if the mean k3 exceeds ``correction.warn``, else "".

    Raises EngineError if it exceeds ``correction.stop``: the sampled policy is not the trained one.
    """
    k3 = metrics.get("mismatch/k3", 0.0)
    text = (
        f"step {step}: engine and policy disagree: k3 {k3:.2e} a token, largest ratio {metrics.get(LARGEST, 1.0):.3g}"
    )
    if not k3 <= correction.stop:  # a NaN stops too
        raise EngineError(
            f"{text}, above rollout.correction.stop {correction.stop:g}; the engine has other weights than the policy, "
            "or another chat template, dtype or temperature; nothing of this step is kept"
        )
    return f"{text}, above rollout.correction.warn {correction.warn:g}" if k3 > correction.warn else ""


def apply_importance_weights(groups: Sequence[Group], correction: CorrectionSection) -> list[Group]:
    """Return the groups with the column ``correction``, importance weights by the kind and level of ``correction``."""
    if correction.kind == "none":
        return list(groups)
    return [
        tuple(sample.having(correction=importance_weights(sample, correction)) for sample in group) for group in groups
    ]


def importance_weights(sample: TrainSample, correction: CorrectionSection) -> Tensor:
    """Return the importance weight of every token, (T,)."""
    gap_T = logp_diff(sample)
    if correction.level == "sequence":
        gap_T = gap_T.sum().expand_as(gap_T)
    ratio_T = gap_T.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()
    if correction.kind == "truncate":
        return ratio_T.clamp(max=correction.high)
    in_range_T = ratio_T <= correction.high
    if correction.kind == "icepop":
        in_range_T &= ratio_T >= correction.low
    return torch.where(in_range_T, ratio_T, 0.0)


def logp_diff(sample: TrainSample) -> Tensor:
    """Return log pi_policy - log pi_engine of every token, (T,); zeros where the engine's are the policy's own."""
    old_logp_T, engine_logp_T = sample["old_logp"], sample.columns.get("engine_logp")
    return torch.zeros_like(old_logp_T) if engine_logp_T is None else old_logp_T - engine_logp_T
