"""Means of scores with 95 % intervals, and paired differences. Pure: arrays in, numbers out.

Axes: S training seeds, P problems, K samples of a problem.

Intervals come from :mod:`archer.evaluation.resampling`, which resamples problems (or contests of problems) and training
seeds. In simulations, repeated in the tests, of beta-binomial scores on 30 to 128 problems the intervals cover the true
mean in 94-95 % of studies, also if problems come in 16 to 64 contests. With training noise, intervals of means cover in
95-96 %. Intervals of differences cover in 95 % with one seed and no training noise, in 98-99 % with small training
noise, and in 96 % with large training noise and three or five seeds; with two seeds in only 91 %: two are too few for
it. Scores of 0, 0.25 and 1 on 64 problems are covered in 94 % (their worst@2 in 95 %), equals told apart in 4 %; scores
without bounds are covered in 94 % if they are normal, but in 90 % with a heavy tail (lognormal, sigma 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archer.evaluation.resampling import Array, ResamplingStudy, alike, grouped, p_value, percentiles, resample

__all__ = ["ANY_NUMBER", "SHARES", "Array", "Bounds", "Clusters", "holm", "mean_interval", "paired_difference"]

Bounds = tuple[float, float]  # the least and the greatest value that there can be
SHARES: Bounds = (0.0, 1.0)
ANY_NUMBER: Bounds = (-math.inf, math.inf)
Clusters = Sequence[Sequence[str]]  # for each matrix the contest of each problem; empty if there are none


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, over ``problems`` and, with 2 or more ``seeds``, over seeds.

    With fewer than two problems the bounds are NaN, because the spread is unknown. So they are where all problems
    score the same and nobody knows how far a score can go.
    """

    value: float
    low: float
    high: float
    seeds: int
    problems: int


@dataclass(frozen=True)
class Difference(Interval):
    """The interval of a paired difference. ``p``, two-sided, is at most 0.05 exactly when the interval excludes 0."""

    p: float

    @property
    def tells_apart(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    def mirrored(self) -> Difference:
        """Return the difference of right minus left."""
        return Difference(0 - self.value, 0 - self.high, 0 - self.low, self.seeds, self.problems, self.p)


def mean_interval(*value_SP: Array, clusters: Clusters = (), bounds: Bounds = SHARES) -> Interval:
    """Return the mean of an S x P matrix of scores with its 95 % interval, which stays within ``bounds``.

    Of several matrices (benchmarks, each with its own problems, all with the same seeds) it is the mean of their means.
    ``clusters`` has one list per matrix: the contest of each problem. Raises ValueError for scores outside the bounds,
    for matrices that are not S x P with the same S, and for lists of another length than P.
    """
    study = arranged(value_SP, clusters, bounds)
    low, high = alike(study, bounds) if study.constant else percentiles(study.value, *resample(study))
    return Interval(study.value, max(low, bounds[0]), min(high, bounds[1]), study.seeds, study.problems)


def paired_difference(
    left_SP: Sequence[Array], right_SP: Sequence[Array], clusters: Clusters = (), bounds: Bounds = SHARES
) -> Difference:
    """Return left minus right on the same problems; each side is a list of matrices as in :func:`mean_interval`.

    Seed i is paired with seed i; a side with a single seed (the base model) is compared with every seed of the other.
    Raises ValueError for scores outside the bounds and for sides that cannot be paired.
    """
    check(left_SP, bounds)
    check(right_SP, bounds)
    if [left.shape[1] for left in left_SP] != [right.shape[1] for right in right_SP]:
        raise ValueError("a paired difference needs the same problems on both sides")
    if len(left_SP[0]) != len(right_SP[0]) and 1 not in (len(left_SP[0]), len(right_SP[0])):
        raise ValueError(f"cannot pair {len(left_SP[0])} seeds with {len(right_SP[0])}")
    gaps_SP = [left - right for left, right in zip(left_SP, right_SP, strict=True)]
    study = ResamplingStudy(tuple(gaps_SP), groups_of(gaps_SP, clusters))
    value, most = study.value, bounds[1] - bounds[0]
    if study.constant:
        low, high = alike(study, (-most, most))
        p = min(1.0, 2 * (1 + abs(value) / most) ** -min(study.units))  # the inverse of alike()
    else:
        deviations_R, freedom = resample(study)
        low, high = percentiles(value, deviations_R, freedom)
        p = p_value(value, deviations_R, freedom)
    return Difference(value, max(low, -most), min(high, most), study.seeds, study.problems, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for multiple comparisons (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    from statsmodels.stats.multitest import multipletests  # takes a second to import; only tables need it

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


def arranged(value_SP: Sequence[Array], clusters: Clusters, bounds: Bounds) -> ResamplingStudy:
    """Check the matrices and return them as a study. Raises ValueError as :func:`check` does."""
    check(value_SP, bounds)
    return ResamplingStudy(tuple(value_SP), groups_of(value_SP, clusters))


def groups_of(value_SP: Sequence[Array], clusters: Clusters) -> tuple[NDArray[np.intp] | None, ...]:
    """Return the cluster number of each matrix's problems."""
    names = clusters or [()] * len(value_SP)
    return tuple(grouped(names_P, matrix_SP.shape[1]) for names_P, matrix_SP in zip(names, value_SP, strict=True))


def check(value_SP: Sequence[Array], bounds: Bounds) -> None:
    """Raise ValueError unless these are S x P matrices with the same S and finite values within the bounds."""
    if not value_SP or any(matrix_SP.ndim != 2 or matrix_SP.size == 0 for matrix_SP in value_SP):
        raise ValueError("expected one or more matrices of seeds x problems")
    if len({len(matrix_SP) for matrix_SP in value_SP}) != 1:
        raise ValueError(f"expected the same seeds in every matrix, found {[len(matrix_SP) for matrix_SP in value_SP]}")
    low, high = bounds
    if not all(((matrix_SP >= low) & (matrix_SP <= high) & np.isfinite(matrix_SP)).all() for matrix_SP in value_SP):
        raise ValueError(f"expected scores within {low:g} and {high:g}")
