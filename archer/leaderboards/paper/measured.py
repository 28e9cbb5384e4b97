"""What results tell of a row: scores with intervals, reruns, months, and differences between rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from archer.evaluation.benchmark import read_benchmark
from archer.evaluation.estimates import avg_at_k, pass_curve, rerun_sd
from archer.evaluation.named_metrics import NamedMetric, bounds_of, interval_of, score_bounds, shown_metrics
from archer.evaluation.statistics import Array, Bounds, Difference, Interval, holm, mean_interval, paired_difference
from archer.leaderboards.paper.collect import Key
from archer.leaderboards.ranking import MEAN, Comparison
from archer.leaderboards.standings import contests, metrics_of
from archer.types import Result

POINTS = 100


@dataclass(frozen=True)
class MeasuredRow:
    """One row on one benchmark: results in the order of seeds. ``contests`` (P,) is empty if none are recorded."""

    results: tuple[Result, ...]
    contests: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """The number of samples per problem, K."""
        return self.results[0].samples

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in order."""
        return tuple(result.seed for result in self.results)

    @property
    def avg_SP(self) -> Array:
        """The mean score of each seed and problem: the share of right samples where scores are 0 and 1."""
        return np.stack([avg_at_k(result.scores) for result in self.results])

    @property
    def rerun(self) -> float:
        """The SD of one seed's avg@K when sampled again: the root of the mean variance over seeds."""
        return float(np.sqrt(np.mean([rerun_sd(result.scores) ** 2 for result in self.results])))

    @property
    def curve(self) -> Array:
        """pass@k for k from 1 to K, averaged over problems and seeds."""
        curve_K: Array = np.mean([pass_curve(result.passed) for result in self.results], axis=0)
        return curve_K

    @property
    def metrics(self) -> dict[str, NamedMetric]:
        """The metrics that the benchmark's results name, by key; the majority's beside pass@K where there are votes."""
        named = {metric.key: metric for metric in shown_metrics(metrics_of(self.results))}
        return {key: metric for key, metric in named.items() if np.isfinite(self.scores(metric)).all()}

    @property
    def bounds(self) -> Bounds:
        """What no score can exceed."""
        return score_bounds(self.results)

    @property
    def marked(self) -> bool:
        """Whether a result was drawn with another sampling than its benchmark's."""
        return any(result.sampling != read_benchmark(result.benchmark).sampling for result in self.results)

    def interval(self, metric: NamedMetric) -> Interval:
        """Return a metric's mean with its interval."""
        return interval_of(metric, [self.scores(metric)], [self.contests], self.bounds)

    def scores(self, metric: NamedMetric) -> Array:
        """Return a metric of each seed and problem, (S, P)."""
        return np.stack([metric.values(result) for result in self.results])

    def months(self) -> dict[str, Interval]:
        """Return avg@K by the month of the problems (2024-08); empty if no result records dates."""
        dates = next((result.dates for result in self.results if any(result.dates)), ())
        by_month: dict[str, list[int]] = {}
        for index, day in enumerate(dates):
            by_month.setdefault(day[:7] or "no date", []).append(index)
        scores_SP = self.avg_SP
        return {
            month: mean_interval(
                scores_SP[:, indices],
                clusters=[[self.contests[index] for index in indices] if self.contests else []],
                bounds=self.bounds,
            )
            for month, indices in sorted(by_month.items())
        }


def measure(rows: Mapping[Key, tuple[Result, ...]]) -> dict[Key, MeasuredRow]:
    """Return every row with its benchmark's contests. Raises DataError if results name different ones."""
    by_benchmark: dict[str, list[Result]] = {}
    for (_, benchmark), results in rows.items():
        by_benchmark.setdefault(benchmark, []).extend(results)
    named = {benchmark: contests(results) for benchmark, results in by_benchmark.items()}
    return {key: MeasuredRow(results, named[key[1]]) for key, results in rows.items()}


def together(measured: Mapping[Key, MeasuredRow], label: str, benchmarks: Sequence[str]) -> list[MeasuredRow]:
    """Return a row on all of these benchmarks; empty if one is missing or its seeds differ between them."""
    rows = [measured[label, name] for name in benchmarks if (label, name) in measured]
    return rows if len(rows) == len(benchmarks) and len({row.seeds for row in rows}) == 1 else []


def mean_of(rows: Sequence[MeasuredRow]) -> Interval:
    """Return the mean of several benchmarks' avg@K with its interval."""
    bounds = bounds_of([row.bounds for row in rows])
    return mean_interval(*(row.avg_SP for row in rows), clusters=[row.contests for row in rows], bounds=bounds)


def mean_rerun(rows: Sequence[MeasuredRow]) -> float:
    """Return the rerun SD of that mean; benchmarks vary independently of each other."""
    return float(np.sqrt(sum(row.rerun**2 for row in rows)) / len(rows))


def compared(measured: Mapping[Key, MeasuredRow], benchmarks: Sequence[str], labels: Sequence[str]) -> list[Comparison]:
    """Return the differences in (mean) avg@K of all pairs whose seeds match, with Holm's correction over them."""
    here = {label: rows for label in labels if (rows := together(measured, label, benchmarks))}
    differences: dict[tuple[str, str], Difference] = {
        (left, right): paired_difference(
            [row.avg_SP for row in here[left]],
            [row.avg_SP for row in here[right]],
            [row.contests for row in here[left]],
            bounds_of([row.bounds for row in (*here[left], *here[right])]),
        )
        for left, right in combinations(here, 2)
        if pairable(here[left][0], here[right][0])
    }
    corrected = holm([difference.p for difference in differences.values()])
    column = benchmarks[0] if len(benchmarks) == 1 else MEAN
    return [
        Comparison(left, right, column, "avg", difference, p)
        for ((left, right), difference), p in zip(differences.items(), corrected, strict=True)
    ]


def pairable(left: MeasuredRow, right: MeasuredRow) -> bool:
    """Return whether seeds can be paired: both sides have the same, or one side has a single seed."""
    return left.seeds == right.seeds or 1 in (len(left.seeds), len(right.seeds))
