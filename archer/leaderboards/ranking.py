"""From scores to standings: means with intervals, paired differences, and verdicts on them in words.

Pure. Rows are ``base`` and the algorithms; columns are benchmarks and, if there are several, their mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from archer.evaluation.resampling import grouped
from archer.evaluation.statistics import Array, Clusters, Difference, Interval, holm, mean_interval, paired_difference

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("avg", "pass")
MEAN = "mean"
BASE = "base"
ANCHORS = (BASE, "grpo", "dapo")  # the rows that every algorithm is compared with
LEVEL = 0.05

Cell = tuple[str, str, str]  # row, column, metric
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

    @property
    def words(self) -> str:
        """The verdict: better or worse if the interval excludes zero, "uncorrected" if the corrected p is too large."""
        if not self.difference.tells_apart:
            return "cannot be told apart"
        better = "better" if self.difference.value > 0 else "worse"
        return better if self.p <= LEVEL else f"{better}, uncorrected"


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
    """A benchmark of P problems x K samples; ``clusters`` (P,) names each problem's contest, empty if unknown."""

    name: str
    problems: int
    samples: int
    clusters: tuple[str, ...] = ()


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

    def metric_name(self, metric: str, column: str) -> str:
        """Return the metric with its K, as in ``avg@16``."""
        return f"{metric}@{self.samples(column) or 'K'}"

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
        for metric in METRICS:
            matrices = {row: column_of(scores, row, column, metric, benchmarks) for row in rows}
            cells |= {(row, column, metric): mean_interval(*matrices[row], clusters=clusters) for row in rows}
            differences = all_pairs(matrices, clusters)
            bold |= {(row, column, metric) for row in rows if beats_all(row, rows, differences)}
            comparisons += compared(column, metric, differences, empty.anchors)
    return Standings(*(empty.rows, empty.seeds, empty.benchmarks), cells, frozenset(bold), tuple(comparisons), *extras)


def column_of(scores: Scores, row: str, column: str, metric: str, benchmarks: Sequence[BenchmarkEntry]) -> list[Array]:
    """Return a column's matrices: the benchmark's own, or for the mean those of every benchmark."""
    return [scores[row, entry.name, metric] for entry in benchmarks if column in (entry.name, MEAN)]


Pairs = dict[tuple[str, str], Difference]


def all_pairs(matrices: Mapping[str, list[Array]], clusters: Clusters = ()) -> Pairs:
    """Return the difference of every two rows, in both directions."""
    pairs: Pairs = {}
    for left, right in combinations(matrices, 2):
        pairs[left, right] = paired_difference(matrices[left], matrices[right], clusters)
        pairs[right, left] = pairs[left, right].mirrored()
    return pairs


def beats_all(row: str, rows: Sequence[str], pairs: Pairs) -> bool:
    """Return whether a row is better than every other one.

    This needs no correction: to be wrongly called best, a row must wrongly beat the one that is as good.
    """
    others = [other for other in rows if other != row]
    return bool(others) and all(pairs[row, other].low > 0 for other in others)


def compared(column: str, metric: str, pairs: Pairs, anchors: Sequence[str]) -> list[Comparison]:
    """Return every algorithm against every anchor; a pair listed in both directions is corrected for once."""
    listed = [pair for anchor in anchors for pair in pairs if pair[1] == anchor and pair[0] != BASE]
    family = {frozenset(pair): pairs[pair].p for pair in listed}
    corrected = dict(zip(family, holm(list(family.values())), strict=True))
    return [
        Comparison(row, against, column, metric, pairs[row, against], corrected[frozenset((row, against))])
        for row, against in listed
    ]


def show(interval: Interval) -> str:
    """Return the interval as in ``0.72 [0.66, 0.78]``."""
    if math.isnan(interval.low):
        return f"{interval.value:.2f} [unknown]"
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def show_difference(difference: Interval) -> str:
    """Return the difference as in ``+0.35 [+0.28, +0.42]``; ``-0.00`` is slightly below zero."""
    if math.isnan(difference.low):
        return f"{difference.value:+.2f} [unknown]"
    return f"{difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"


def legend(standings: Standings) -> list[str]:
    """Return the notes below the tables, one or two sentences each."""
    counts = ", ".join(f"{entry.name} {entry.problems} x {entry.samples}" for entry in standings.benchmarks)
    seeds = len(standings.seeds)
    if seeds > 1:
        over = f"Mean over {seeds} training seeds with its 95% interval"
        noise = f"Intervals are over problems and, but for base (one model), the {seeds} seeds."
    else:
        over = "One training seed; the mean over problems with its 95% interval"
        noise = "Training noise is NOT covered: another seed may differ by more than the intervals say."
    drawn = [entry.name for entry in standings.benchmarks if grouped(entry.clusters, entry.problems) is not None]
    noise += f" Problems of one contest are drawn together: {', '.join(drawn)}." if drawn else ""
    bold = "a column without bold has no such row" if standings.bold else "no column has such a row"
    differences = (
        "Differences are paired by problem and, where both rows have seeds, by seed. Better or worse: the "
        "95% interval excludes zero. Uncorrected: Holm's p, for all comparisons of the column, is above 0.05."
    )
    return [
        f"{over}. Problems x samples: {counts}. {noise}",
        "avg@K: share of right samples. pass@K: share of problems with a right sample among K.",
        f"Bold: better than every other row, each paired difference's interval above zero; {bold}.",
        differences,
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
