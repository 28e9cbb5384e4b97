"""How far a mean over seeds and problems may be from the truth: resampled means and their percentiles. Pure.

Axes: S training seeds, P problems, C clusters of problems (contests), R resamples.

An interval covers two sources of chance: which problems were asked, and, with two seeds or more, which
training seeds were run. Both are resampled, independently of each other, each cell of the matrix counting
with the product of its row's and its column's weight: the "pigeonhole" bootstrap for crossed factors (Owen,
Annals of Applied Statistics 1(2), 2007, doi 10.1214/07-AOAS122), mildly conservative. Where problems come in
contests, whole contests are drawn, with all their problems, and a resample's mean is a ratio: its sum over
its number of problems. Below :data:`FEWEST` contests (AIME's two, AMC's) nothing can be told of the spread
between them, and problems are drawn as if each were its own. A benchmark has tens of problems or contests but
a study has two to five seeds, which calls for two corrections:

- S - 1 of the S seeds are drawn, and C - 1 of the C contests, so that their share of the variance is not
  (S - 1) / S of what it should be (Rao and Wu, JASA 83, 1988: the rescaling bootstrap, in which n - 1 draws
  need no rescaling);
- the percentiles are stretched away from the mean by t / z, Student's quantile over the normal one, with
  Satterthwaite's degrees of freedom: two seeds say little about the spread of seeds.

Percentiles keep the skewness near 0 and 1. BCa is not used: its acceleration is a jackknife over exchangeable
units, and neither scipy's nor another library's is defined for two crossed factors.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Index = NDArray[np.intp]

RESAMPLES = 9_999  # with the observed value 10,000, so that 2.5 % is a rank and not between two
TAIL = 0.025
FEWEST = 5  # contests: with 4, Student's quantile alone would stretch an interval by 1.6, with 2 by 6.5
SEED = 20_070_386  # of the resamples: a table made twice is the same table


@dataclass(frozen=True)
class ResamplingStudy:
    """Matrices of seeds x problems, one a benchmark; ``groups`` number each problem's cluster, None: each its own."""

    value_SP: tuple[Array, ...]
    groups: tuple[Index | None, ...]

    @property
    def value(self) -> float:
        """The mean of the matrices' means."""
        return float(np.mean([one.mean() for one in self.value_SP]))

    @property
    def seeds(self) -> int:
        """S, the same for every matrix."""
        return len(self.value_SP[0])

    @property
    def problems(self) -> int:
        """P, of all matrices."""
        return sum(one.shape[1] for one in self.value_SP)

    @property
    def units(self) -> list[int]:
        """How many problems, or clusters of them, each matrix draws from."""
        pairs = zip(self.value_SP, self.groups, strict=True)
        return [one.shape[1] if group_P is None else int(group_P.max()) + 1 for one, group_P in pairs]

    @property
    def constant(self) -> bool:
        """Whether nothing varies between what is drawn, so that resampling would claim certainty."""
        pairs = zip(self.value_SP, self.groups, strict=True)
        return min(self.units) > 1 and all(float(np.ptp(drawn(*pair))) < 1e-12 for pair in pairs)


def drawn(one_SP: Array, group_P: Index | None) -> Array:
    """Return the means of what is drawn: problems (S, P), or clusters of them (S, C)."""
    if group_P is None:
        return one_SP
    return np.array([np.bincount(group_P, weights=row_P) for row_P in one_SP]) / np.bincount(group_P)


def grouped(names: Sequence[str], problems: int) -> Index | None:
    """Return the number of each problem's cluster, (P,), None where no two share one or there are too few.

    A problem without a name is a cluster of its own. Raises ValueError unless there is a name for each problem.
    """
    if not names:
        return None
    if len(names) != problems:
        raise ValueError(f"{len(names)} names of clusters for {problems} problems")
    numbers: dict[object, int] = {}
    group_P = np.array([numbers.setdefault(name or place, len(numbers)) for place, name in enumerate(names)])
    return group_P if FEWEST <= len(numbers) < problems else None


def alike(study: ResamplingStudy, least: float) -> tuple[float, float]:
    """Return the bounds of problems that all score alike, between ``least`` and 1.

    Of problems not asked, up to 1 - 0.025 ** (1 / P) may score otherwise (the exact binomial bound for none
    seen among P; P, or C clusters, of the smallest benchmark), and by as much as a score can.
    """
    share = 1 - TAIL ** (1 / min(study.units))
    return study.value - share * (study.value - least), study.value + share * (1 - study.value)


def resample(study: ResamplingStudy) -> tuple[Array, float]:
    """Return the resampled means' deviations from the observed one, sorted, and their degrees of freedom."""
    means_R = np.zeros(RESAMPLES)
    seed_weights_RS = weights(study.seeds, max(study.seeds - 1, 1), 0)
    for stream, (one_SP, group_P) in enumerate(zip(study.value_SP, study.groups, strict=True), start=1):
        over = by_problem if group_P is None else by_cluster
        means_R += over(seed_weights_RS, one_SP, group_P, stream) / len(study.value_SP)
    return np.sort(means_R - study.value), satterthwaite(study)


def by_problem(seed_weights_RS: Array, one_SP: Array, _: Index | None, stream: int) -> Array:
    """Return the means of as many problems as there are, (R,)."""
    weights_RP = weights(one_SP.shape[1], one_SP.shape[1], stream)
    means_R: Array = np.einsum("rp,rp->r", seed_weights_RS @ one_SP, weights_RP)
    return means_R


def by_cluster(seed_weights_RS: Array, one_SP: Array, group_P: Index | None, stream: int) -> Array:
    """Return the means over the problems of C - 1 clusters drawn of C, (R,)."""
    assert group_P is not None
    sizes_C = np.bincount(group_P)
    totals_SC = np.array([np.bincount(group_P, weights=row_P) for row_P in one_SP])
    weights_RC = weights(len(sizes_C), max(len(sizes_C) - 1, 1), stream)
    means_R: Array = np.einsum("rc,rc->r", seed_weights_RS @ totals_SC, weights_RC) / (weights_RC @ sizes_C)
    return means_R


@lru_cache(maxsize=8)
def weights(units: int, draws: int, stream: int) -> Array:
    """Return how much each unit counts in each resample, (R, units); rows sum to one."""
    counts = np.random.default_rng([SEED, units, stream]).multinomial(draws, np.full(units, 1 / units), RESAMPLES)
    shares: Array = counts / draws
    return shares


def satterthwaite(study: ResamplingStudy) -> float:
    """Return the degrees of freedom of the mean's variance, a sum over seeds and each matrix's problems."""
    count = len(study.value_SP)
    pairs = zip(study.value_SP, study.groups, strict=True)
    parts = [by_unit(one.mean(axis=0) / count, group_P) for one, group_P in pairs]
    if study.seeds > 1:
        parts.append(np.mean([one.mean(axis=1) for one in study.value_SP], axis=0))
    if min(len(part) for part in parts) < 2:
        return np.nan
    variances = [(float(part.var(ddof=1)) / len(part), len(part) - 1) for part in parts]
    squares = sum(variance**2 / freedom for variance, freedom in variances)
    return sum(variance for variance, _ in variances) ** 2 / squares if squares > 0 else np.inf


def by_unit(mean_P: Array, group_P: Index | None) -> Array:
    """Return what each unit adds to the mean's deviation, scaled so that the units' variance is the mean's."""
    if group_P is None:
        return mean_P
    totals_C = np.bincount(group_P, weights=mean_P - mean_P.mean())
    return totals_C * len(totals_C) / len(mean_P)


def percentiles(value: float, deviations_R: Array, freedom: float) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % percentiles, stretched."""
    rank = round(TAIL * (RESAMPLES + 1))
    wide = stretch(TAIL, freedom)
    return value + wide * float(deviations_R[rank - 1]), value + wide * float(deviations_R[-rank])


def p_value(value: float, deviations_R: Array, freedom: float) -> float:
    """Return the smallest level at which the interval excludes zero: twice the tail that just does.

    The interval is inverted, stretch included, over every tail the resamples can tell: p is 0.0002 or more.
    """
    inward_R = deviations_R if value > 0 else -deviations_R[::-1]
    ranks = range(1, (RESAMPLES + 1) // 2)

    def excludes(rank: int) -> bool:
        return abs(value) + stretch(rank / (RESAMPLES + 1), freedom) * float(inward_R[rank - 1]) > 0

    place = bisect_left(ranks, True, key=excludes)  # a larger tail is a narrower interval
    return 2 * ranks[place] / (RESAMPLES + 1) if place < len(ranks) else 1.0


def stretch(tail: float, freedom: float) -> float:
    """Return Student's quantile over the normal one."""
    return float(special.stdtrit(freedom, tail) / special.ndtri(tail))
