"""What a problem's K samples tell of it: avg@K, pass@k, maj@K, worst@k, best@k. Pure: arrays in, numbers out.

Axes: P problems, K samples of a problem.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from archer.evaluation.resampling import Array

Passes = Sequence[Sequence[bool]] | NDArray[np.bool_]
Scores = Sequence[Sequence[float]] | Array


def avg_at_k(scores_PK: Scores) -> Array:
    """Return each problem's mean score, (P,): its share of right samples where scores are 0 and 1."""
    means_P: Array = np.asarray(scores_PK, dtype=float).mean(axis=1)
    return means_P


def pass_at_k(passed_PK: Passes, k: int) -> Array:
    """Return the unbiased estimate of each problem's chance that at least one of k samples passes, (P,).

    1 - C(K - c, k) / C(K, k) for c passed samples of K (Chen et al. 2021, arXiv 2107.03374, Eq. 1), as a product that
    does not overflow. Raises ValueError if k is not within 1 and K, and for what is neither passed nor not (0.1).
    """
    counted_PK = np.asarray(passed_PK)
    samples = drawn_from(counted_PK, "pass", k)
    if not np.isin(counted_PK, (0, 1)).all():
        raise ValueError(f"pass@{k} counts samples that pass or do not, not scores between 0 and 1")
    factors = 1 - k / np.arange(samples, 0, -1)
    none_passed = np.concatenate([[1.0], np.cumprod(factors)])  # index: number of passed samples
    estimates_P: Array = 1 - none_passed[counted_PK.astype(bool).sum(axis=1)]
    return estimates_P


def worst_at_k(scores_PK: Scores, k: int) -> Array:
    """Return the unbiased estimate of each problem's expected least score among k samples, (P,).

    With a problem's K scores in ascending order, s_1 <= ... <= s_K, the mean of the least over all choices of k:
    sum_i s_i C(K - i, k - 1) / C(K, k), a U-statistic (Hoeffding, Annals of Mathematical Statistics 19, 1948). Of
    scores 0 and 1 it is the chance that all k are right, pass^k (Yao et al. 2024, arXiv 2406.12045). Raises ValueError
    if k is not within 1 and K.
    """
    return -best_at_k(-np.asarray(scores_PK, dtype=float), k, "worst")


def best_at_k(scores_PK: Scores, k: int, name: str = "best") -> Array:
    """Return the unbiased estimate of each problem's expected best score among k samples, (P,).

    As :func:`worst_at_k`, sum_i s_i C(i - 1, k - 1) / C(K, k); of scores 0 and 1 it is pass@k.
    """
    sorted_PK = np.sort(np.asarray(scores_PK, dtype=float), axis=1)
    samples = drawn_from(sorted_PK, name, k)
    choices = math.comb(samples, k)
    weight_K = np.array([math.comb(place, k - 1) / choices for place in range(samples)])
    means_P: Array = sorted_PK @ weight_K
    return means_P


def drawn_from(value_PK: NDArray[np.generic], name: str, k: int) -> int:
    """Return K. Raises ValueError unless k samples can be drawn of it."""
    samples = int(value_PK.shape[1])
    if not 1 <= k <= samples:
        raise ValueError(f"{name}@{k} of {samples} samples: k must be within 1 and {samples}")
    return samples


def pass_curve(passed_PK: Passes) -> Array:
    """Return pass@k averaged over problems, for every k from 1 to K, (K,)."""
    samples = np.asarray(passed_PK).shape[1]
    return np.array([pass_at_k(passed_PK, k).mean() for k in range(1, samples + 1)])


def maj_at_k(passed_PK: Passes, answers_PK: Sequence[Sequence[str]]) -> Array:
    """Return each problem's chance that a majority vote over its K answers is right, (P,); ties are broken at random.

    All right samples count as one answer, as the verifier judged them. Wrong answers are grouped by their text,
    ignoring spaces, and a sample without an answer does not vote. Wrong answers that are equal but written differently
    split their votes, which biases the estimate upwards. The expectation is over ties alone, given the K drawn samples:
    this is not an estimate of maj@k for k < K. Raises ValueError if the answer of a right sample is not recorded.
    """
    return np.array([majority(*row) for row in zip(passed_PK, answers_PK, strict=True)])


def votable(passed_PK: Passes, answers_PK: Sequence[Sequence[str]]) -> bool:
    """Return whether maj@K can be computed: K is 2 or more and the answer of every right sample is recorded.

    It cannot for programs, which have no answers to vote with.
    """
    if not answers_PK or len(answers_PK[0]) < 2 or not any(map(any, answers_PK)):
        return False
    rows = zip(passed_PK, answers_PK, strict=True)
    return all(text.strip() for row in rows for right, text in zip(*row, strict=True) if right)


def majority(passed_K: Sequence[bool] | NDArray[np.bool_], answers_K: Sequence[str]) -> float:
    """Return the share of the most frequent answers that are right; 0 if there are no answers."""
    votes: Counter[str | None] = Counter()
    for right, answer in zip(passed_K, answers_K, strict=True):
        text = "".join(answer.split())
        if right and not text:
            raise ValueError("maj@K needs the answer of every right sample, one is not recorded")
        if text:
            votes[None if right else text] += 1
    most = max(votes.values(), default=0)
    return (votes[None] == most) / sum(count == most for count in votes.values()) if votes else 0.0


def rerun_sd(scores_PK: Scores) -> float:
    """Return the standard deviation of avg@K when the same model is sampled again on the same problems.

    sqrt(sum_P v / K) / P with v the variance of a problem's K scores, divided by K - 1: unbiased. Of scores 0 and 1,
    v / K is p (1 - p) / (K - 1) with the observed p. NaN for one sample a problem, which shows no variation.
    """
    score_PK = np.asarray(scores_PK, dtype=float)
    problems, samples = score_PK.shape
    if samples < 2:
        return np.nan
    return float(np.sqrt(score_PK.var(axis=1, ddof=1).sum() / samples) / problems)
