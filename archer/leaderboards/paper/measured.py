"""What results say of a row: scores with intervals, reruns, months, and differences between rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from archer.evaluation.benchmark import read_benchmark
from archer.evaluation.statistics import (
    Array,
    Difference,
    Interval,
    avg_at_k,
    holm,
    maj_at_k,
    mean_interval,
    paired_difference,
    pass_at_k,
    pass_curve,
    rerun_sd,
    votable,
)
from archer.leaderboards.paper.collect import Key
from archer.leaderboards.ranking import MEAN, Comparison
from archer.leaderboards.standings import contests
from archer.types import Result

POINTS = 100


@dataclass(frozen=True)
class MeasuredRow:
    """One row on one benchmark: results in the order of seeds. ``contests`` (P,) name clusters, if any."""

    results: tuple[Result, ...]
    contests: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """K."""
        return self.results[0].samples

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in order."""
        return tuple(one.seed for one in self.results)

    @property
    def avg_SP(self) -> Array:
        """Each seed's and problem's share of right samples."""
        return np.stack([avg_at_k(one.outcomes) for one in self.results])

    @property
    def rerun(self) -> float:
        """The SD of one seed's avg@K when sampled anew, averaged over seeds as variances."""
        return float(np.sqrt(np.mean([rerun_sd(one.outcomes) ** 2 for one in self.results])))

    @property
    def curve(self) -> Array:
        """pass@k for k from 1 to K, averaged over problems and seeds."""
        curve_K: Array = np.mean([pass_curve(one.outcomes) for one in self.results], axis=0)
        return curve_K

    @property
    def votes(self) -> bool:
        """Whether maj@K can be told of every seed."""
        return all(votable(one.outcomes, one.answers) for one in self.results)

    @property
    def marked(self) -> bool:
        """Whether a result was drawn otherwise than its benchmark says."""
        return any(one.sampling != read_benchmark(one.benchmark).sampling for one in self.results)

    def interval(self, metric: str) -> Interval:
        """Return ``avg``, ``pass`` or ``maj`` @K with its interval."""
        return mean_interval(self.scores(metric), clusters=[self.contests])

    def scores(self, metric: str) -> Array:
        """Return a metric of each seed and problem, (S, P)."""
        if metric == "avg":
            return self.avg_SP
        if metric == "pass":
            return np.stack([pass_at_k(one.outcomes, one.samples) for one in self.results])
        return np.stack([maj_at_k(one.outcomes, one.answers) for one in self.results])

    def months(self) -> dict[str, Interval]:
        """Return avg@K by the month of the problems (2024-08); empty where no result records days."""
        dates = next((one.dates for one in self.results if any(one.dates)), ())
        by_month: dict[str, list[int]] = {}
        for place, day in enumerate(dates):
            by_month.setdefault(day[:7] or "no date", []).append(place)
        scores_SP = self.avg_SP
        return {
            month: mean_interval(
                scores_SP[:, places], clusters=[[self.contests[place] for place in places] if self.contests else []]
            )
            for month, places in sorted(by_month.items())
        }


def measure(rows: Mapping[Key, tuple[Result, ...]]) -> dict[Key, MeasuredRow]:
    """Return every row with its benchmark's contests. Raises DataError where results name different ones."""
    by_benchmark: dict[str, list[Result]] = {}
    for (_, benchmark), results in rows.items():
        by_benchmark.setdefault(benchmark, []).extend(results)
    named = {benchmark: contests(results) for benchmark, results in by_benchmark.items()}
    return {key: MeasuredRow(results, named[key[1]]) for key, results in rows.items()}


def together(found: Mapping[Key, MeasuredRow], label: str, benchmarks: Sequence[str]) -> list[MeasuredRow]:
    """Return a row on all of these benchmarks; empty where it lacks one, or its seeds are not the same on all."""
    ones = [found[label, name] for name in benchmarks if (label, name) in found]
    return ones if len(ones) == len(benchmarks) and len({one.seeds for one in ones}) == 1 else []


def mean_of(ones: Sequence[MeasuredRow]) -> Interval:
    """Return the mean of several benchmarks' avg@K."""
    return mean_interval(*(one.avg_SP for one in ones), clusters=[one.contests for one in ones])


def mean_rerun(ones: Sequence[MeasuredRow]) -> float:
    """Return the rerun SD of that mean: benchmarks vary independently of each other."""
    return float(np.sqrt(sum(one.rerun**2 for one in ones)) / len(ones))


def compared(found: Mapping[Key, MeasuredRow], benchmarks: Sequence[str], labels: Sequence[str]) -> list[Comparison]:
    """Return the differences in (mean) avg@K of all pairs that can be paired, with Holm's correction over them."""
    here = {label: ones for label in labels if (ones := together(found, label, benchmarks))}
    differences: dict[tuple[str, str], Difference] = {
        (left, right): paired_difference(
            [one.avg_SP for one in here[left]],
            [one.avg_SP for one in here[right]],
            [one.contests for one in here[left]],
        )
        for left, right in combinations(here, 2)
        if pairable(here[left][0], here[right][0])
    }
    corrected = holm([one.p for one in differences.values()])
    column = benchmarks[0] if len(benchmarks) == 1 else MEAN
    return [
        Comparison(left, right, column, "avg", one, p)
        for ((left, right), one), p in zip(differences.items(), corrected, strict=True)
    ]


def pairable(left: MeasuredRow, right: MeasuredRow) -> bool:
    """Say whether seeds can be paired: the same ones, or a side with one."""
    return left.seeds == right.seeds or 1 in (len(left.seeds), len(right.seeds))
