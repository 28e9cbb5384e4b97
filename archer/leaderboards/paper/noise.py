"""How far apart published scores may be by chance, computed from what is printed: avg@K, pass@K, numbers of problems.

No paper publishes its outcomes, so the spread between problems is modelled (:mod:`archer.evaluation.difficulty`). Three
kinds of noise, each the half-width of a 95 % interval of a difference:

- rerun: the same problems, both models sampled again;
- paired: other problems of the kind, the same for both models, whose chances are assumed to correlate by 0.8;
- unpaired: other problems for each model, or an unknown correlation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scipy import special

from archer.evaluation.difficulty import Difficulty, from_printed, gap_variance
from archer.leaderboards.published import (
    PaperTable,
    PublishedColumn,
    PublishedGroup,
    PublishedPaper,
    PublishedRow,
    scored,
)

CORRELATION = 0.8  # assumed, of two models' chances over problems; in the lab it is 0.15 to 0.98, depending on the task
Z = float(special.ndtri(0.975))
POINTS = 100


@dataclass(frozen=True)
class BenchmarkSpread:
    """A benchmark's spread in print: mean accuracy, and the share of p (1 - p) that lies between problems."""

    mean: float
    share: float

    @property
    def difficulty(self) -> Difficulty:
        """The difficulty for a model of mean accuracy."""
        return self.at(self.mean)

    def at(self, mean: float) -> Difficulty:
        """Return the difficulty for a model of that accuracy."""
        return Difficulty(mean, self.share * mean * (1 - mean))


@dataclass(frozen=True)
class RowGap:
    """One row minus another, in points, and the half-widths of its noise."""

    value: float
    unpaired: float
    paired: float
    rerun: float

    @property
    def words(self) -> str:
        """The word for the smallest noise that explains the gap: rerun, inside (paired), paired (unpaired) or clear."""
        size = abs(self.value)
        if size <= self.rerun:
            return "rerun"
        return "inside" if size <= self.paired else "paired" if size <= self.unpaired else "clear"

    @property
    def apart(self) -> bool:
        """Whether the gap exceeds both the noise of rerunning and that of other problems for both."""
        return self.words in ("paired", "clear")


def spreads(papers: Iterable[PublishedPaper]) -> dict[str, BenchmarkSpread]:
    """Return each benchmark's spread, averaged over all cells that print both numbers."""
    difficulties: dict[str, list[Difficulty]] = {}
    for paper in papers:
        for table in paper.tables:
            for group, row in table.rows():
                for column in table.columns:
                    known = own_difficulty(table.column(column.key, group), row)
                    if known is not None:
                        difficulties.setdefault(column.key, []).append(known)
    return {
        key: BenchmarkSpread(
            mean([one.mean for one in ones]), mean([one.between / (one.between + one.within) for one in ones])
        )
        for key, ones in difficulties.items()
    }


def mean(values: list[float]) -> float:
    """Return the mean of the values."""
    return sum(values) / len(values)


def own_difficulty(column: PublishedColumn, row: PublishedRow) -> Difficulty | None:
    """Return the difficulty that a cell's own two numbers determine; None if one is missing or no beta has both."""
    cell = scored(row.cells[column.key])
    if cell is None or cell.solved is None or not column.samples or not column.problems:
        return None
    try:
        return from_printed(float(cell.average) / POINTS, float(cell.solved) / POINTS, column.problems, column.samples)
    except ValueError:  # 100.0/100.0 shows no spread, 40.0/40.0 less than sampling alone gives
        return None


def difficulty(column: PublishedColumn, row: PublishedRow, known: Mapping[str, BenchmarkSpread]) -> Difficulty | None:
    """Return a cell's own difficulty, else that of the benchmark's spread in print at the cell's accuracy."""
    own = own_difficulty(column, row)
    cell = scored(row.cells[column.key])
    if own is not None or cell is None or not column.samples or not column.problems or column.key not in known:
        return own
    return known[column.key].at(float(cell.average) / POINTS)


def gaps(
    table: PaperTable,
    group: PublishedGroup,
    pair: tuple[PublishedRow, PublishedRow],
    known: Mapping[str, BenchmarkSpread],
    alike: float = CORRELATION,
) -> dict[str, RowGap]:
    """Return left minus right by column, if its noise can be computed.

    The mean of the columns is under ``""`` if all columns have a gap. The models' chances correlate by ``alike``.
    """
    by_column: dict[str, RowGap] = {}
    for listed in table.columns:
        column = table.column(listed.key, group)
        sides = [difficulty(column, row, known) for row in pair]
        cells = [scored(row.cells[listed.key]) for row in pair]
        if sides[0] and sides[1] and cells[0] and cells[1]:
            value = float(cells[0].average - cells[1].average)
            by_column[listed.key] = RowGap(value, *half_widths(sides[0], sides[1], column, alike))
    if table.average and len(by_column) == len(table.columns) > 1:
        by_column[""] = averaged(list(by_column.values()))
    return by_column


def half_widths(
    left: Difficulty, right: Difficulty, column: PublishedColumn, alike: float
) -> tuple[float, float, float]:
    """Return the half-widths of a gap's noise in points: unpaired, paired, rerun."""
    apart, close = (gap_variance(left, right, column.samples, r) for r in (0.0, alike))
    within = (left.within + right.within) / column.samples
    unpaired, paired, rerun = (
        Z * math.sqrt(variance / column.problems) * POINTS for variance in (apart, close, within)
    )
    return unpaired, paired, rerun


def averaged(columns: list[RowGap]) -> RowGap:
    """Return the gap of the columns' mean, whose noise is independent between benchmarks."""
    kinds = [[getattr(gap, name) for gap in columns] for name in ("unpaired", "paired", "rerun")]
    unpaired, paired, rerun = (math.sqrt(sum(width**2 for width in widths)) / len(columns) for widths in kinds)
    return RowGap(mean([gap.value for gap in columns]), unpaired, paired, rerun)
