"""A benchmark whose scores lie between 0 and 1: its reward and a metric of its own, named by bleu.yaml.

cd examples/bleu && archer eval lab --benchmarks ./bleu.yaml
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archer.rewards.base import Response
from archer.types import Verdict


@dataclass(frozen=True)
class Bleu:
    """BLEU of a response over characters: clipped n-gram precision, smoothed, times the brevity penalty.

    Papineni et al. 2002; n-grams above the first are smoothed by adding one (Lin and Och 2004).
    """

    rules = 1

    most: int = 4
    """Characters of the longest n-grams."""
    passes: float = 0.5
    """The least score that counts as passed, for pass@k."""

    def grade_batch(self, items: Sequence[Response]) -> list[Verdict]:
        """Return one verdict a response; the gold is the reference text."""
        return [self._verdict(bleu(item.text, item.problem.gold, self.most)) for item in items]

    def _verdict(self, score: float) -> Verdict:
        passed = score >= self.passes
        return Verdict(score, passed, "right" if passed else "partial" if score else "wrong")


def bleu(text: str, reference: str, most: int) -> float:
    """Return the score of a text, 0 to 1."""
    said, wanted = "".join(text.split()), "".join(reference.split())
    if not said or not wanted:
        return 0.0
    logs = 0.0
    for n in range(1, most + 1):
        own, theirs = grams(said, n), grams(wanted, n)
        matched = sum((own & theirs).values())
        more = int(n > 1)
        if not matched + more:
            return 0.0
        logs += math.log((matched + more) / (own.total() + more))
    return math.exp(logs / most + min(0.0, 1 - len(wanted) / len(said)))


def grams(text: str, n: int) -> Counter[str]:
    """Count the n-grams of characters."""
    return Counter(text[start : start + n] for start in range(len(text) - n + 1))


def median(scores_PK: NDArray[np.float64], passed_PK: object, answers_PK: object) -> NDArray[np.float64]:
    """Return the median score of each problem's samples, (P,): a metric is a function of these three."""
    return np.median(scores_PK, axis=1)
