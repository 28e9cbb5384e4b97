"""From scores to standings: means with intervals, paired differences, and verdicts on them in words.

Pure. Rows are ``base`` and the algorithms; columns are benchmarks and, if there are several, their mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from archer.evaluation.metrics import Better
from archer.evaluation.named_metrics import NamedMetric, bounds_of, find_metrics, interval_of, with_k
from archer.evaluation.statistics import SHARES, Array, Bounds, Clusters, Difference, Interval, holm, paired_difference
from archer.types import DEFAULT_METRICS

if TYPE_CHECKING:
    import pandas as pd

MEAN = "mean"
BASE = "base"
ANCHORS = (BASE, "grpo", "dapo")  # the rows that every algorithm is compared with
LEVEL = 0.05

Cell = tuple[str, str, str]  # row, column, metric: `avg`, `pass`, `pass@8`
Scores = Mapping[Cell, Array]  # one S x P matrix for each row, benchmark and metric


@dataclass(frozen=True)
class Comparison:
    """``row`` minus ``against`` in one column. ``p`` is corrected (Holm) for all comparisons of the column."""

    row: str
    against: str
    column: str
    metric: str
    difference: Difference
    p: float
    better: Better = "higher"

    @property
    def words(self) -> str:
        """The verdict: better or worse if the interval excludes zero, "uncorrected" if the corrected p is too large.

        Higher or lower, where neither is better.
        """
        if not self.difference.tells_apart:
            return "cannot be told apart"
        higher = self.difference.value > 0
        better = "better" if higher == (self.better == "higher") else "worse"
        word = ("higher" if higher else "lower") if self.better == "neither" else better
        return word if self.p <= LEVEL else f"{word}, uncorrected"


@dataclass(frozen=True)
class ResponseDetail:
    """A row's responses over all benchmarks: mean tokens, shares, and seconds of evaluation per seed.

    ``limited`` is the share that ended at a limit of the judge or the sandbox.
    """

    length: float
    truncated: float
    no_answer: float
    limited: float
    seconds: float


@dataclass(frozen=True)
class TrainingCost:
    """The responses and seconds of one training run of an algorithm, averaged over seeds."""

    responses: float
    seconds: float


@dataclass(frozen=True)
class BenchmarkEntry:
    """A benchmark of P problems x K samples; ``clusters`` (P,) names each problem's contest, empty if unknown.

    ``metrics`` are those that it names, ``bounds`` what no score can exceed; ``right_or_wrong`` says whether all
    scores are 0 or 1.
    """

    name: str
    problems: int
    samples: int
    clusters: tuple[str, ...] = ()
    metrics: tuple[str, ...] = DEFAULT_METRICS
    bounds: Bounds = SHARES
    right_or_wrong: bool = True


@dataclass(frozen=True)
class Standings:
    """Everything the tables show. ``bold`` holds the cells that beat every other row of their column."""

    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    benchmarks: tuple[BenchmarkEntry, ...]
    cells: Mapping[Cell, Interval]
    bold: frozenset[Cell]
    comparisons: tuple[Comparison, ...]
    details: Mapping[str, ResponseDetail]
    costs: Mapping[str, TrainingCost]

    def to_pandas(self) -> pd.DataFrame:
        """Return every number, a line each: scores with 95 % intervals, differences with p, details, costs."""
        import pandas as pd

        columns = ["benchmark", "row", "metric", "value", "low", "high", "seeds", "problems", "samples"]
        found = pd.DataFrame(list(numbers(self)), columns=columns)
        return found.astype({"seeds": "Int64", "problems": "Int64", "samples": "Int64"})

    @property
    def columns(self) -> tuple[str, ...]:
        """The benchmarks and, if there are several, their mean."""
        names = tuple(entry.name for entry in self.benchmarks)
        return (*names, MEAN) if len(names) > 1 else names

    @property
    def anchors(self) -> tuple[str, ...]:
        """The rows that others are compared with."""
        return tuple(row for row in ANCHORS if row in self.rows)

    def samples(self, column: str) -> int | None:
        """Return the K of a column; None for a mean of benchmarks with different K."""
        counts = {entry.samples for entry in self.benchmarks if column in (entry.name, MEAN)}
        return counts.pop() if len(counts) == 1 else None

    def metrics(self, column: str) -> dict[str, NamedMetric]:
        """Return a column's metrics by key, the mean's first; of the benchmarks' mean those that all of them name."""
        first, *others = [find_metrics(entry.metrics) for entry in self.benchmarks if column in (entry.name, MEAN)]
        return {metric.key: metric for metric in first if all(metric in named for named in others)}

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all metrics, in the order in which the benchmarks name them."""
        return tuple(dict.fromkeys(key for column in self.columns for key in self.metrics(column)))

    def columns_of(self, metric: str) -> tuple[str, ...]:
        """Return the columns that show a metric."""
        return tuple(column for column in self.columns if metric in self.metrics(column))

    def metric_name(self, metric: str, column: str) -> str:
        """Return the metric with its K, as in ``avg@16``."""
        return with_k(metric, self.samples(column))

    def against(self, anchor: str, metric: str) -> dict[str, dict[str, Comparison]]:
        """Return the comparisons with ``anchor``, by row and column."""
        by_row: dict[str, dict[str, Comparison]] = {}
        for comparison in self.comparisons:
            if (comparison.against, comparison.metric) == (anchor, metric):
                by_row.setdefault(comparison.row, {})[comparison.column] = comparison
        return by_row


def rank(
    scores: Scores, rows: Sequence[str], seeds: Sequence[int], benchmarks: Sequence[BenchmarkEntry],
    extras: tuple[Mapping[str, ResponseDetail], Mapping[str, TrainingCost]],
) -> Standings:  # fmt: skip
    """Compute intervals, differences and bold cells. Raises ValueError for scores that cannot be paired."""
    empty = Standings(tuple(rows), tuple(seeds), tuple(benchmarks), {}, frozenset(), (), *extras)
    cells: dict[Cell, Interval] = {}
    bold: set[Cell] = set()
    comparisons: list[Comparison] = []
    for column in empty.columns:
        clusters = [entry.clusters for entry in benchmarks if column in (entry.name, MEAN)]
        bounds = bounds_of([entry.bounds for entry in benchmarks if column in (entry.name, MEAN)])
        for key, metric in empty.metrics(column).items():
            matrices = {row: column_of(scores, row, column, key, benchmarks) for row in rows}
            cells |= {(row, column, key): interval_of(metric, matrices[row], clusters, bounds) for row in rows}
            if not all(math.isfinite(cells[row, column, key].value) for row in rows):
                continue  # a problem without a value, as a vote that cannot be told
            within = metric.bounds([matrix for row in rows for matrix in matrices[row]], bounds)
            differences = all_pairs(matrices, clusters, within)
            bold |= {(row, column, key) for row in rows if beats_all(row, rows, differences, metric.better)}
            comparisons += compared((column, key, metric.better), differences, empty.anchors)
    return Standings(*(empty.rows, empty.seeds, empty.benchmarks), cells, frozenset(bold), tuple(comparisons), *extras)


def column_of(scores: Scores, row: str, column: str, metric: str, benchmarks: Sequence[BenchmarkEntry]) -> list[Array]:
    """Return a column's matrices: the benchmark's own, or for the mean those of every benchmark."""
    return [scores[row, entry.name, metric] for entry in benchmarks if column in (entry.name, MEAN)]


Pairs = dict[tuple[str, str], Difference]


def all_pairs(matrices: Mapping[str, list[Array]], clusters: Clusters = (), bounds: Bounds = SHARES) -> Pairs:
    """Return the difference of every two rows, in both directions."""
    pairs: Pairs = {}
    for left, right in combinations(matrices, 2):
        pairs[left, right] = paired_difference(matrices[left], matrices[right], clusters, bounds)
        pairs[right, left] = pairs[left, right].mirrored()
    return pairs


def beats_all(row: str, rows: Sequence[str], pairs: Pairs, better: Better = "higher") -> bool:
    """Return whether a row is better than every other one.

    This needs no correction: to be wrongly called best, a row must wrongly beat the one that is as good.
    """
    others = [other for other in rows if other != row]
    if better == "neither" or not others:
        return False
    return all(pairs[row, other].low > 0 if better == "higher" else pairs[row, other].high < 0 for other in others)


def compared(of: tuple[str, str, Better], pairs: Pairs, anchors: Sequence[str]) -> list[Comparison]:
    """Return every algorithm against every anchor; a pair listed in both directions is corrected for once."""
    listed = [pair for anchor in anchors for pair in pairs if pair[1] == anchor and pair[0] != BASE]
    family = {frozenset(pair): pairs[pair].p for pair in listed}
    corrected = dict(zip(family, holm(list(family.values())), strict=True))
    column, metric, better = of
    return [
        Comparison(row, against, column, metric, pairs[row, against], corrected[frozenset((row, against))], better)
        for row, against in listed
    ]


def numbers(standings: Standings) -> Iterator[tuple[object, ...]]:
    """Yield every number as the columns of :meth:`Standings.to_pandas`."""

    def counted(column: str, row: str, name: str, score: Interval) -> tuple[object, ...]:
        bounds = (score.value, score.low, score.high)
        return column, row, name, *bounds, score.seeds, score.problems, standings.samples(column)

    blank = (None,) * 5
    for (row, column, metric), score in standings.cells.items():
        yield counted(column, row, standings.metric_name(metric, column), score)
    for pair in standings.comparisons:
        name = f"{standings.metric_name(pair.metric, pair.column)} minus {pair.against}"
        yield counted(pair.column, pair.row, name, pair.difference)
        yield pair.column, pair.row, f"{name}: Holm's p", pair.p, *blank
    extras: list[tuple[str, ResponseDetail | TrainingCost]] = [*standings.details.items(), *standings.costs.items()]
    for row, facts in extras:
        prefix = "response" if isinstance(facts, ResponseDetail) else "training"
        for name, value in asdict(facts).items():
            yield "all", row, f"{prefix} {name}", value, *blank
