"""The uncertainty of a mean over seeds and problems: resampled means and their percentiles. Pure.

Axes: S training seeds, P problems, C clusters of problems (contests), R resamples.

An interval covers two sources of chance: which problems were asked and, with two seeds or more, which training seeds
were run. Both are resampled, independently of each other; each cell of the matrix counts with the product of its row's
and its column's weight. This is the "pigeonhole" bootstrap for crossed factors (Owen, Annals of Applied Statistics
1(2), 2007, doi 10.1214/07-AOAS122), which is mildly conservative. If problems come in contests, whole contests are
drawn, with all their problems, and a resample's mean is a ratio: its sum over its number of problems. With fewer than
:data:`FEWEST` contests (AIME, AMC) their spread cannot be estimated, and each problem is drawn by itself. A benchmark
has tens of problems or contests but a study has two to five seeds, which calls for two corrections:

- S - 1 of the S seeds are drawn, and C - 1 of the C contests: drawing all S would shrink their share of the variance
  to (S - 1) / S of its true size (Rao and Wu, JASA 83, 1988: the rescaling bootstrap, in which n - 1 draws
  need no rescaling);
- the percentiles are stretched away from the mean by t / z, Student's quantile over the normal one, with
  Satterthwaite's degrees of freedom: two seeds say little about the spread of seeds.

Percentiles keep the skewness near 0 and 1. BCa is not used: its acceleration is a jackknife over exchangeable units,
and neither scipy nor another library defines it for two crossed factors.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Index = NDArray[np.intp]

RESAMPLES = 9_999  # 10,000 with the observed value, so that 2.5 % falls exactly on a rank
TAIL = 0.025
FEWEST = 5  # contests: with 4, Student's quantile alone would stretch an interval by 1.6, with 2 by 6.5
SEED = 20_070_386  # of the resamples, so that a table computed twice is the same


@dataclass(frozen=True)
class ResamplingStudy:
    """Matrices of seeds x problems, one per benchmark.

    ``groups`` has, for each matrix, the cluster number of each problem, (P,), or None if every problem is its own
    cluster.
    """

    value_SP: tuple[Array, ...]
    groups: tuple[Index | None, ...]

    @property
    def value(self) -> float:
        """The mean of the matrices' means."""
        return float(np.mean([score_SP.mean() for score_SP in self.value_SP]))

    @property
    def seeds(self) -> int:
        """S, the same for every matrix."""
        return len(self.value_SP[0])

    @property
    def problems(self) -> int:
        """The number of problems of all matrices together."""
        return sum(score_SP.shape[1] for score_SP in self.value_SP)

    @property
    def units(self) -> list[int]:
        """The number of problems, or of clusters, that each matrix draws from."""
        pairs = zip(self.value_SP, self.groups, strict=True)
        return [score_SP.shape[1] if group_P is None else int(group_P.max()) + 1 for score_SP, group_P in pairs]

    @property
    def constant(self) -> bool:
        """Whether all units that are drawn score the same, so that resampling would give an interval of width zero."""
        pairs = zip(self.value_SP, self.groups, strict=True)
        return min(self.units) > 1 and all(float(np.ptp(drawn(*pair))) < 1e-12 for pair in pairs)


def drawn(score_SP: Array, group_P: Index | None) -> Array:
    """Return the mean score of each unit that is drawn: of problems (S, P), or of clusters (S, C)."""
    if group_P is None:
        return score_SP
    return np.array([np.bincount(group_P, weights=row_P) for row_P in score_SP]) / np.bincount(group_P)


def grouped(names: Sequence[str], problems: int) -> Index | None:
    """Return the number of each problem's cluster, (P,); None if all clusters are single problems or too few.

    A problem with an empty name is a cluster of its own. Raises ValueError unless there is a name for each problem.
    """
    if not names:
        return None
    if len(names) != problems:
        raise ValueError(f"{len(names)} names of clusters for {problems} problems")
    numbers: dict[object, int] = {}
    group_P = np.array([numbers.setdefault(name or index, len(numbers)) for index, name in enumerate(names)])
    return group_P if FEWEST <= len(numbers) < problems else None


def alike(study: ResamplingStudy, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the bounds for problems that all score the same, where scores lie within ``bounds``; NaN if these are not.

    Up to 1 - 0.025 ** (1 / P) of the problems that were not asked may score differently (the exact binomial bound for
    none seen among P; P, or C clusters, of the smallest benchmark), and by as much as a score can.
    """
    least, most = bounds
    if math.isinf(most - least):
        return np.nan, np.nan
    share = 1 - TAIL ** (1 / min(study.units))
    return study.value - share * (study.value - least), study.value + share * (most - study.value)


def resample(study: ResamplingStudy) -> tuple[Array, float]:
    """Return the sorted deviations of the resampled means from the observed one, (R,), and their degrees of freedom."""
    means_R = np.zeros(RESAMPLES)
    seed_weights_RS = weights(study.seeds, max(study.seeds - 1, 1), 0)
    for stream, (score_SP, group_P) in enumerate(zip(study.value_SP, study.groups, strict=True), start=1):
        over = by_problem if group_P is None else by_cluster
        means_R += over(seed_weights_RS, score_SP, group_P, stream) / len(study.value_SP)
    return np.sort(means_R - study.value), satterthwaite(study)


def by_problem(seed_weights_RS: Array, score_SP: Array, _: Index | None, stream: int) -> Array:
    """Return resampled means over P problems drawn out of P, (R,)."""
    weights_RP = weights(score_SP.shape[1], score_SP.shape[1], stream)
    means_R: Array = np.einsum("rp,rp->r", seed_weights_RS @ score_SP, weights_RP)
    return means_R


def by_cluster(seed_weights_RS: Array, score_SP: Array, group_P: Index | None, stream: int) -> Array:
    """Return resampled means over the problems of C - 1 clusters drawn out of C, (R,)."""
    assert group_P is not None
    sizes_C = np.bincount(group_P)
    totals_SC = np.array([np.bincount(group_P, weights=row_P) for row_P in score_SP])
    weights_RC = weights(len(sizes_C), max(len(sizes_C) - 1, 1), stream)
    means_R: Array = np.einsum("rc,rc->r", seed_weights_RS @ totals_SC, weights_RC) / (weights_RC @ sizes_C)
    return means_R


@lru_cache(maxsize=8)
def weights(units: int, draws: int, stream: int) -> Array:
    """Return the weight of each unit in each resample, (R, units); rows sum to one."""
    counts = np.random.default_rng([SEED, units, stream]).multinomial(draws, np.full(units, 1 / units), RESAMPLES)
    shares: Array = counts / draws
    return shares


def satterthwaite(study: ResamplingStudy) -> float:
    """Return the degrees of freedom of the mean's variance, which sums over seeds and each matrix's units."""
    count = len(study.value_SP)
    pairs = zip(study.value_SP, study.groups, strict=True)
    parts = [by_unit(score_SP.mean(axis=0) / count, group_P) for score_SP, group_P in pairs]
    if study.seeds > 1:
        parts.append(np.mean([score_SP.mean(axis=1) for score_SP in study.value_SP], axis=0))
    if min(len(part) for part in parts) < 2:
        return np.nan
    variances = [(float(part.var(ddof=1)) / len(part), len(part) - 1) for part in parts]
    squares = sum(variance**2 / freedom for variance, freedom in variances)
    return sum(variance for variance, _ in variances) ** 2 / squares if squares > 0 else np.inf


def by_unit(mean_P: Array, group_P: Index | None) -> Array:
    """Return each unit's contribution, scaled so that its variance over the number of units is the mean's variance."""
    if group_P is None:
        return mean_P
    totals_C = np.bincount(group_P, weights=mean_P - mean_P.mean())
    return totals_C * len(totals_C) / len(mean_P)


def percentiles(value: float, deviations_R: Array, freedom: float) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % percentiles, stretched for ``freedom`` degrees of freedom."""
    rank = round(TAIL * (RESAMPLES + 1))
    wide = stretch(TAIL, freedom)
    return value + wide * float(deviations_R[rank - 1]), value + wide * float(deviations_R[-rank])


def p_value(value: float, deviations_R: Array, freedom: float) -> float:
    """Return the two-sided p-value: twice the smallest tail whose interval excludes zero.

    The interval, stretch included, is inverted over every tail that the resamples resolve: p is 0.0002 or more.
    """
    inward_R = deviations_R if value > 0 else -deviations_R[::-1]
    ranks = range(1, (RESAMPLES + 1) // 2)

    def excludes(rank: int) -> bool:
        return abs(value) + stretch(rank / (RESAMPLES + 1), freedom) * float(inward_R[rank - 1]) > 0

    first = bisect_left(ranks, True, key=excludes)  # a larger tail gives a narrower interval
    return 2 * ranks[first] / (RESAMPLES + 1) if first < len(ranks) else 1.0


def stretch(tail: float, freedom: float) -> float:
    """Return Student's quantile divided by the normal one."""
    return float(special.stdtrit(freedom, tail) / special.ndtri(tail))
