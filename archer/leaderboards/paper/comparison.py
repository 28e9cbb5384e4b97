"""Measured rows as tables: beside print, of no paper, against each other, along k, by month."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from archer.evaluation.statistics import Interval
from archer.leaderboards.layouts import PageTable
from archer.leaderboards.paper.measured import POINTS, MeasuredRow, compared, mean_of, mean_rerun, pairable, together
from archer.leaderboards.paper.noise import Z
from archer.leaderboards.paper.specs import TableChapter
from archer.leaderboards.paper.table import ResultTable
from archer.leaderboards.published import NONE, PublishedColumn, PublishedGroup, PublishedRow, scored
from archer.leaderboards.ranking import MEAN, Comparison
from archer.leaderboards.tables import show_p

NOTE = (
    "Mean over problems and seeds, in points, with its 95 % interval. rerun SD: of one seed sampled anew. inside: the "
    "printed value lies in the interval, which is over problems and therefore wide; rerun noise: it lies as near as "
    "sampling the same problems anew would bring it."
)
MARK = "*: drawn with another sampling than the benchmark's."
MAJ = "maj@K: equal wrong answers that are written differently count apart, so it leans upwards; ties by lot."


@dataclass(frozen=True)
class MeasuredLine:
    """A measured score, with the printed one where there is one; ``rerun`` (SD) where it is avg@K."""

    row: str
    column: str
    metric: str
    measured: Interval
    printed: float | None
    rerun: float | None
    marked: bool = False

    @property
    def difference(self) -> float | None:
        """Measured minus printed, in points."""
        return None if self.printed is None else POINTS * self.measured.value - self.printed

    @property
    def inside(self) -> bool | None:
        """Whether the printed value lies within the measured interval; None where one of them is not known."""
        if self.printed is None or math.isnan(self.measured.low):
            return None
        return POINTS * self.measured.low <= self.printed <= POINTS * self.measured.high

    @property
    def words(self) -> str:
        """Where the printed value lies: one run, taken to vary as each of the S seeds does whose mean is measured."""
        if self.inside is None or self.difference is None:
            return NONE
        place = "inside" if self.inside else "outside"
        if self.rerun is None or math.isnan(self.rerun):
            return place
        width = Z * POINTS * self.rerun * math.sqrt(1 + 1 / self.measured.seeds)
        close = abs(self.difference) <= width
        return f"{place}, {'rerun noise' if close else 'beyond rerun noise'}"

    def cells(self) -> tuple[str, ...]:
        """Return the line as text."""
        printed = NONE if self.printed is None else f"{self.printed:.1f}"
        difference = NONE if self.difference is None else f"{self.difference:+.1f}"
        rerun = "" if self.rerun is None else f"{POINTS * self.rerun:.2f}"
        name = f"{self.row} {self.column} {self.metric}{' *' if self.marked else ''}"
        return name, printed, points(self.measured), difference, rerun, self.words


def lines(board: ResultTable, columns: Sequence[PublishedColumn], row: PublishedRow) -> Iterator[MeasuredLine]:
    """Yield a row's measured scores, a line a benchmark and metric, then their mean where it has all benchmarks."""
    for column in columns:
        one, printed = board.measured.get((row.key, column.key)), scored(row.cells.get(column.key, NONE))
        if one is None:
            continue
        told = {"avg": printed.average, "pass": printed.solved} if printed else {}
        for metric in ("avg", "pass", "maj") if one.votes else ("avg", "pass"):
            value, rerun = told.get(metric), one.rerun if metric == "avg" else None
            name, known = f"{metric}@{one.samples}", None if value is None else float(value)
            yield MeasuredLine(row.name, column.name, name, one.interval(metric), known, rerun, one.marked)
    ones = together(board.measured, row.key, [one.key for one in columns])
    if len(ones) > 1:
        average = scored(row.average)
        known = float(average.average) if average else None
        yield MeasuredLine(
            row.name, MEAN, "avg@K", mean_of(ones), known, mean_rerun(ones), any(one.marked for one in ones)
        )


def chapter_lines(board: ResultTable, chapter: TableChapter, group: PublishedGroup) -> list[MeasuredLine]:
    """Return what was measured of a group's rows."""
    columns = [one for one in chapter.table.columns if one.samples]
    return [line for row in group.rows for line in lines(board, columns, row)] if chapter.measured else []


def stranger_lines(board: ResultTable) -> list[MeasuredLine]:
    """Return what was measured of rows that no chapter prints."""
    named = {one.key: one.name for part in board.chapters for one in part.table.columns}
    columns = [PublishedColumn(key, named[key]) for key in board.benchmarks]
    return [line for label in board.strangers for line in lines(board, columns, PublishedRow(label, label, {}))]


def beside_grid(found: Sequence[MeasuredLine], title: str) -> Iterator[PageTable]:
    """Yield the table of such lines, if there are any."""
    if found:
        notes = [NOTE, *([MAJ] if any("maj" in one.metric for one in found) else [])]
        notes += [MARK] if any(one.marked for one in found) else []
        header = ("", "printed", "measured", "difference", "rerun SD", "printed value")
        yield PageTable(header, tuple(one.cells() for one in found), title, tuple(notes))


def comparisons(board: ResultTable) -> list[Comparison]:
    """Return every pair of measured rows on every benchmark and their mean, Holm's p over each column's pairs."""
    names = board.benchmarks
    columns = [[name] for name in names] + ([names] if len(names) > 1 else [])
    return [one for column in columns for one in compared(board.measured, column, board.labels)]


def comparison_grids(board: ResultTable) -> Iterator[PageTable]:
    """Yield the differences between measured rows, and say which could not be paired."""
    found = {(one.row, one.against, one.column): one for one in comparisons(board)}
    lacking = [*unpaired(board), *lonely(board)]
    columns = [name for name in [*board.benchmarks, MEAN] if any(name == key[2] for key in found)]
    rows = [
        (f"{row}\nminus {against}", *(difference(found.get((row, against, name))) for name in columns))
        for row, against in dict.fromkeys((row, against) for row, against, _ in found)
    ]
    note = "Paired by problem and seed, in points, with 95 % intervals; p is Holm's, for all pairs of a column."
    if rows or lacking:
        yield PageTable(("", *columns), tuple(rows), "Differences between measured rows, avg@K", (note, *lacking))


def unpaired(board: ResultTable) -> Iterator[str]:
    """Yield, for each pair of rows on a benchmark whose seeds do not match, that there is no difference."""
    for name in board.benchmarks:
        here = [label for label in board.labels if (label, name) in board.measured]
        for left, right in combinations(here, 2):
            if not pairable(board.measured[left, name], board.measured[right, name]):
                yield f"{left} and {right} are not compared on {name}: other seeds."


def lonely(board: ResultTable) -> Iterator[str]:
    """Yield, for each row of one seed that is set against rows of several, what no interval holds."""
    for label in board.labels:
        for name in board.benchmarks:
            mine = board.measured.get((label, name))
            others = [len(board.measured[key].seeds) for key in board.measured if key[1] == name and key[0] != label]
            if mine and len(mine.seeds) == 1 and max(others, default=1) > 1:
                yield f"{label} has one seed, set against each of the others': its training noise is in no interval."
                break


def difference(one: Comparison | None) -> str:
    """Return a difference over its words."""
    if one is None:
        return NONE
    gap = one.difference
    bounds = "unknown" if math.isnan(gap.low) else f"{POINTS * gap.low:+.1f}, {POINTS * gap.high:+.1f}"
    return f"{POINTS * gap.value:+.1f} [{bounds}]\n{one.words} ({show_p(one.p)})"


def curve_grids(board: ResultTable) -> Iterator[PageTable]:
    """Yield pass@k for k = 1, 2, 4 ... K; every k is in the CSV."""
    if board.measured:
        most = max(one.samples for one in board.measured.values())
        chosen = [2**power for power in range(most.bit_length()) if 2**power <= most]
        rows = tuple((f"{label} {name}", *curve_cells(one, chosen)) for (label, name), one in board.measured.items())
        yield PageTable(
            ("", *(f"k={k}" for k in chosen)), rows, "pass@k, measured", ("Unbiased, of K samples, in points.",)
        )


def curve_cells(one: MeasuredRow, chosen: Sequence[int]) -> list[str]:
    """Return pass@k in points."""
    return [f"{POINTS * one.curve[k - 1]:.1f}" if k <= one.samples else NONE for k in chosen]


def month_grids(board: ResultTable) -> Iterator[PageTable]:
    """Yield accuracy by the month of the problems, a table a benchmark, where results record days."""
    for name in board.benchmarks:
        found = {label: one.months() for label in board.labels if (one := board.measured.get((label, name)))}
        found = {label: months for label, months in found.items() if months}
        if found:
            months = sorted({month for by_month in found.values() for month in by_month})
            sizes = {month: next(one[month].problems for one in found.values() if month in one) for month in months}
            rows = tuple(
                (f"{month} ({sizes[month]})", *(points(one[month]) if month in one else NONE for one in found.values()))
                for month in months
            )
            note = "Number of problems in brackets; 95 % intervals over problems and seeds."
            yield PageTable(("", *found), rows, f"{name}: avg@K by month", (note,))


def points(one: Interval) -> str:
    """Return ``48.5 [34.1, 62.3]``."""
    if math.isnan(one.low):
        return f"{POINTS * one.value:.1f} [unknown]"
    return f"{POINTS * one.value:.1f} [{POINTS * one.low:.1f}, {POINTS * one.high:.1f}]"
