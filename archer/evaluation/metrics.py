"""The metrics that a benchmark names: each makes a value for every problem of its samples' scores, passes and answers.

Axes: P problems, K samples of a problem. A metric of one's own is named ``module:NAME`` or ``./file.py:NAME``: a
function of ``(scores_PK, passed_PK, answers_PK)``, or a frozen dataclass that can be called with them, and may say of
itself what the ones below do: ``title``, ``says``, ``bounds`` and ``better``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from archer.evaluation.estimates import avg_at_k, best_at_k, maj_at_k, pass_at_k, votable, worst_at_k
from archer.evaluation.statistics import SHARES, Array, Bounds

Answers = Sequence[Sequence[str]]
Better = Literal["higher", "lower", "neither"]


class Metric(Protocol):
    """What makes one value a problem; NaN where a problem has none.

    Three more things that a metric may say of itself:

    - ``title``: the column's name before its ``@K``; without one the metric's own name
    - ``bounds``: what its values cannot exceed; None: what the scores cannot; without one any number
    - ``better``: whether ``higher`` (also without one) or ``lower`` values are better, or ``neither``
    """

    def __call__(self, scores_PK: Array, passed_PK: NDArray[np.bool_], answers_PK: Answers) -> Array:
        """Return the values, (P,). ``answers_PK`` is empty where none were recorded."""
        ...


@dataclass(frozen=True)
class Mean:
    """The mean score of a problem's samples, avg@K: the share of right ones where scores are 0 and 1."""

    title: ClassVar[str] = "avg"
    says: ClassVar[str] = "mean score of the samples"
    bounds: ClassVar[Bounds | None] = None

    def __call__(self, scores_PK: Array, passed_PK: NDArray[np.bool_], answers_PK: Answers) -> Array:
        return avg_at_k(scores_PK)


@dataclass(frozen=True)
class PassAtK:
    """The chance that at least one of k samples passes, :func:`~archer.evaluation.estimates.pass_at_k`."""

    k: int = 0
    """Samples drawn of the K; 0: all."""
    title: ClassVar[str] = "pass"
    says: ClassVar[str] = "share of problems with a passed sample among the k"
    bounds: ClassVar[Bounds | None] = SHARES

    def __call__(self, scores_PK: Array, passed_PK: NDArray[np.bool_], answers_PK: Answers) -> Array:
        return pass_at_k(passed_PK, self.k or passed_PK.shape[1])


@dataclass(frozen=True)
class MajAtK:
    """The chance that a majority vote over all K answers passes; NaN where the samples cannot vote.

    :func:`~archer.evaluation.estimates.maj_at_k` says what a vote is, ``votable`` where there is none.
    """

    title: ClassVar[str] = "maj"
    says: ClassVar[str] = "share of problems whose most frequent answer passes, ties by lot"
    bounds: ClassVar[Bounds | None] = SHARES

    def __call__(self, scores_PK: Array, passed_PK: NDArray[np.bool_], answers_PK: Answers) -> Array:
        if not votable(passed_PK, answers_PK):
            return np.full(len(passed_PK), np.nan)
        return maj_at_k(passed_PK, answers_PK)


@dataclass(frozen=True)
class WorstAtK:
    """The expected least score among k samples, :func:`~archer.evaluation.estimates.worst_at_k`."""

    k: int = 0
    """Samples drawn of the K; 0: all."""
    title: ClassVar[str] = "worst"
    says: ClassVar[str] = "least score among k samples"
    bounds: ClassVar[Bounds | None] = None

    def __call__(self, scores_PK: Array, passed_PK: NDArray[np.bool_], answers_PK: Answers) -> Array:
        return worst_at_k(scores_PK, self.k or scores_PK.shape[1])


@dataclass(frozen=True)
class BestAtK:
    """The expected best score among k samples, :func:`~archer.evaluation.estimates.best_at_k`."""

    k: int = 0
    """Samples drawn of the K; 0: all."""
    title: ClassVar[str] = "best"
    says: ClassVar[str] = "best score among k samples"
    bounds: ClassVar[Bounds | None] = None

    def __call__(self, scores_PK: Array, passed_PK: NDArray[np.bool_], answers_PK: Answers) -> Array:
        return best_at_k(scores_PK, self.k or scores_PK.shape[1])


@dataclass(frozen=True)
class StdAtK:
    """The standard deviation of a problem's K scores (divided by K - 1); NaN for one sample."""

    title: ClassVar[str] = "std"
    says: ClassVar[str] = "standard deviation of a problem's scores"
    bounds: ClassVar[Bounds | None] = (0.0, math.inf)
    better: ClassVar[Better] = "neither"

    def __call__(self, scores_PK: Array, passed_PK: NDArray[np.bool_], answers_PK: Answers) -> Array:
        if scores_PK.shape[1] < 2:
            return np.full(len(scores_PK), np.nan)
        values_P: Array = scores_PK.std(axis=1, ddof=1)
        return values_P


METRICS: Mapping[str, Metric] = {
    "mean": Mean(), "avg@k": Mean(), "pass@k": PassAtK(), "maj@k": MajAtK(), "worst@k": WorstAtK(),
    "best@k": BestAtK(), "std": StdAtK(),
}  # fmt: skip
