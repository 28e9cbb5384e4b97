"""How hard a benchmark's problems are for a model: how its scores vary between problems and within one. Pure.

Where a sample is right or wrong, this is a beta distribution of the chance of a right sample.

It gives the noise of a score whose outcomes are not published: a printed avg@K and pass@K determine the two parameters,
since avg = a / (a + b) and 1 - pass@K = B(a, b + K) / B(a, b), the share of problems without a right sample among K.
The variance between problems moves avg@K when other problems are asked; the variance within them, divided by K, moves
it when the same problems are sampled again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from archer.evaluation.estimates import Scores, avg_at_k

HALF = 0.5  # problems assumed unsolved if the printed pass@K is 100 %


@dataclass(frozen=True)
class Difficulty:
    """Problems' expected scores: their mean, and their variance between problems.

    Of right and wrong samples these are chances, and ``mean * (1 - mean) == between + within``, whatever the
    distribution. Of other scores ``sampled`` is the variance of a sample around its problem's expected score.
    """

    mean: float
    between: float
    sampled: float | None = None

    @property
    def within(self) -> float:
        """The variance of a sample around its problem's expected score: of chances the mean of p (1 - p)."""
        return self.mean * (1 - self.mean) - self.between if self.sampled is None else self.sampled

    @property
    def shape(self) -> tuple[float, float]:
        """The beta's a and b, of right and wrong samples alone; infinite if there is no variance between problems."""
        total = self.within / self.between if self.between > 0 else math.inf
        return self.mean * total, (1 - self.mean) * total

    def spread(self, problems: int, samples: int) -> float:
        """Return the SD of avg@K when other problems are drawn and sampled."""
        return math.sqrt((self.between + self.within / samples) / problems)

    def rerun(self, problems: int, samples: int) -> float:
        """Return the SD of avg@K when the same problems are sampled again."""
        return math.sqrt(self.within / samples / problems)


def from_printed(average: float, solved: float, problems: int, samples: int) -> Difficulty:
    """Return the difficulty that has avg@K ``average`` and pass@K ``solved``, both within 0 and 1.

    It is a beta distribution of chances, so it holds of samples that are right or wrong, not of scores in between.
    If all problems are solved, half a problem is assumed unsolved: the largest spread that still fits. Raises
    ValueError for a pair that no beta has: pass@K below avg@K or above that of equally hard problems.
    """
    if not 0 < average < 1:
        raise ValueError(f"avg@{samples} {average:.3f}: a difficulty needs an average above 0 and below 1")
    unsolved = max(1 - solved, HALF / problems)

    def excess(log_total: float) -> float:
        total = math.exp(log_total)
        return log_unsolved(average, total, samples) - math.log(unsolved)

    low, high = math.log(1e-6), math.log(1e6)
    if excess(low) < 0 or excess(high) > 0:
        raise ValueError(f"no beta distribution has avg@{samples} {average:.3f} and pass@{samples} {solved:.3f}")
    total = math.exp(optimize.brentq(excess, low, high))
    return Difficulty(average, average * (1 - average) / (total + 1))


def log_unsolved(mean: float, total: float, samples: int) -> float:
    """Return the log of the share of problems without a right sample, where a + b is ``total``."""
    a, b = mean * total, (1 - mean) * total
    return float(special.betaln(a, b + samples) - special.betaln(a, b))


def from_scores(scores_PK: Scores) -> Difficulty:
    """Estimate the difficulty by the method of moments. Raises ValueError below two problems or samples."""
    score_PK = np.asarray(scores_PK, dtype=float)
    problems, samples = score_PK.shape
    if problems < 2 or samples < 2:
        raise ValueError(f"difficulty of {problems} problems x {samples} samples: both must be two or more")
    mean_P = avg_at_k(score_PK)
    mean, spread = float(mean_P.mean()), float(mean_P.var(ddof=1))
    if np.isin(score_PK, (0, 1)).all():
        noise = float((mean_P * (1 - mean_P)).mean()) / (samples - 1)  # unbiased for the mean of p (1 - p) / K
        return Difficulty(mean, min(max(spread - noise, 0.0), mean * (1 - mean)))
    within = float(score_PK.var(axis=1, ddof=1).mean())
    return Difficulty(mean, max(spread - within / samples, 0.0), within)


def correlation(left_PK: Scores, right_PK: Scores) -> float:
    """Return the correlation of two models' expected scores over problems, corrected for noise, within 0 and 1."""
    between = [from_scores(scores_PK).between for scores_PK in (left_PK, right_PK)]
    if min(between) <= 0:
        return 0.0
    together = float(np.cov(avg_at_k(left_PK), avg_at_k(right_PK))[0, 1])
    return min(max(together / math.sqrt(between[0] * between[1]), 0.0), 1.0)


def gap_variance(left: Difficulty, right: Difficulty, samples: int, alike: float) -> float:
    """Return one problem's variance of the difference in avg@K; the models' chances correlate by ``alike``."""
    shared = alike * math.sqrt(left.between * right.between)
    return left.between + right.between - 2 * shared + (left.within + right.within) / samples
