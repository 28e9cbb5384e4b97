"""How far published scores may be apart by chance, from what is printed: avg@K, pass@K, the numbers of problems.

No paper publishes its outcomes, so the spread between problems is modelled (:mod:`archer.evaluation.difficulty`).
Three kinds of noise, each the half-width of a 95 % interval of a difference:

- rerun: the same problems, both models sampled anew;
- paired: other problems of the kind, the same for both models, whose chances are taken to correlate by 0.8;
- unpaired: other problems for each model, or nothing known of how alike the models are.
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

CORRELATION = 0.8  # assumed: of two models' chances over problems. Within the lab it is 0.15 to 0.98, by task
Z = float(special.ndtri(0.975))
POINTS = 100


@dataclass(frozen=True)
class BenchmarkSpread:
    """What is known of a benchmark's cells in print: mean accuracy, and the share of p (1 - p) between problems."""

    mean: float
    share: float

    @property
    def difficulty(self) -> Difficulty:
        """The difficulty of a model of mean accuracy."""
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
        """The smallest noise that explains the gap, else ``clear``."""
        size = abs(self.value)
        if size <= self.rerun:
            return "rerun"
        return "inside" if size <= self.paired else "paired" if size <= self.unpaired else "clear"

    @property
    def apart(self) -> bool:
        """Whether the gap is more than rerunning, or other problems for both, would give."""
        return self.words in ("paired", "clear")


def spreads(papers: Iterable[PublishedPaper]) -> dict[str, BenchmarkSpread]:
    """Return what all cells with both numbers say of each benchmark, averaged."""
    found: dict[str, list[Difficulty]] = {}
    for paper in papers:
        for table in paper.tables:
            for group, row in table.rows():
                for one in table.columns:
                    known = own_difficulty(table.column(one.key, group), row)
                    if known is not None:
                        found.setdefault(one.key, []).append(known)
    return {
        key: BenchmarkSpread(
            mean([one.mean for one in ones]), mean([one.between / (one.between + one.within) for one in ones])
        )
        for key, ones in found.items()
    }


def mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def own_difficulty(column: PublishedColumn, row: PublishedRow) -> Difficulty | None:
    """Return the difficulty that a cell's own two numbers pin; None where it has not both, or no beta has them."""
    cell = scored(row.cells[column.key])
    if cell is None or cell.solved is None or not column.samples or not column.problems:
        return None
    try:
        return from_printed(float(cell.average) / POINTS, float(cell.solved) / POINTS, column.problems, column.samples)
    except ValueError:  # 100.0/100.0 shows no spread, 40.0/40.0 less than sampling alone would
        return None


def difficulty(column: PublishedColumn, row: PublishedRow, known: Mapping[str, BenchmarkSpread]) -> Difficulty | None:
    """Return a cell's difficulty: its own, else the spread of the benchmark's other cells at its accuracy."""
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
    """Return left minus right by column where noise can be told, and their mean under ``""`` where all can."""
    found: dict[str, RowGap] = {}
    for one in table.columns:
        column = table.column(one.key, group)
        sides = [difficulty(column, row, known) for row in pair]
        cells = [scored(row.cells[one.key]) for row in pair]
        if sides[0] and sides[1] and cells[0] and cells[1]:
            value = float(cells[0].average - cells[1].average)
            found[one.key] = RowGap(value, *half_widths(sides[0], sides[1], column, alike))
    if table.average and len(found) == len(table.columns) > 1:
        found[""] = averaged(list(found.values()))
    return found


def half_widths(
    left: Difficulty, right: Difficulty, column: PublishedColumn, alike: float
) -> tuple[float, float, float]:
    """Return the half-widths, in points: unpaired, paired, rerun."""
    apart, close = (gap_variance(left, right, column.samples, one) for one in (0.0, alike))
    within = (left.within + right.within) / column.samples
    unpaired, paired, rerun = (Z * math.sqrt(one / column.problems) * POINTS for one in (apart, close, within))
    return unpaired, paired, rerun


def averaged(ones: list[RowGap]) -> RowGap:
    """Return the gap of the columns' mean: benchmarks vary independently of each other."""
    parts = [[getattr(one, name) for one in ones] for name in ("unpaired", "paired", "rerun")]
    unpaired, paired, rerun = (math.sqrt(sum(width**2 for width in widths)) / len(ones) for widths in parts)
    return RowGap(mean([one.value for one in ones]), unpaired, paired, rerun)
