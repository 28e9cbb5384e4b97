"""Tables of measured rows: beside printed ones, without a printed one, compared in pairs, along k, by month."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from archer.evaluation.statistics import Interval
from archer.leaderboards.layouts import PageTable
from archer.leaderboards.paper.measured import POINTS, MeasuredRow, compared, mean_of, mean_rerun, pairable, together
from archer.leaderboards.paper.noise import Z
from archer.leaderboards.paper.specs import LoadedPart
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
    """A measured score and, if there is one, the printed score; ``rerun`` (SD) is given for avg@K."""

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
        """Whether the printed value lies within the measured interval; None if one of them is unknown."""
        if self.printed is None or math.isnan(self.measured.low):
            return None
        return POINTS * self.measured.low <= self.printed <= POINTS * self.measured.high

    @property
    def words(self) -> str:
        """Where the printed value lies; it is one run, assumed to vary as each of the S measured seeds does."""
        if self.inside is None or self.difference is None:
            return NONE
        position = "inside" if self.inside else "outside"
        if self.rerun is None or math.isnan(self.rerun):
            return position
        width = Z * POINTS * self.rerun * math.sqrt(1 + 1 / self.measured.seeds)
        close = abs(self.difference) <= width
        return f"{position}, {'rerun noise' if close else 'beyond rerun noise'}"

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the line."""
        printed = NONE if self.printed is None else f"{self.printed:.1f}"
        difference = NONE if self.difference is None else f"{self.difference:+.1f}"
        rerun = "" if self.rerun is None else f"{POINTS * self.rerun:.2f}"
        name = f"{self.row} {self.column} {self.metric}{' *' if self.marked else ''}"
        return name, printed, points(self.measured), difference, rerun, self.words


def lines(table: ResultTable, columns: Sequence[PublishedColumn], row: PublishedRow) -> Iterator[MeasuredLine]:
    """Yield a row's measured scores, one per benchmark and metric, then their mean if all benchmarks are measured."""
    for column in columns:
        measured, printed = table.measured.get((row.key, column.key)), scored(row.cells.get(column.key, NONE))
        if measured is None:
            continue
        values = {"avg": printed.average, "pass": printed.solved} if printed else {}
        for key, metric in measured.metrics.items():
            value, rerun = values.get(key), measured.rerun if key == "avg" else None
            name, known = metric.title(measured.samples), None if value is None else float(value)
            yield MeasuredLine(row.name, column.name, name, measured.interval(metric), known, rerun, measured.marked)
    averaged = together(table.measured, row.key, [column.key for column in columns])
    if len(averaged) > 1:
        average = scored(row.average)
        known = float(average.average) if average else None
        yield MeasuredLine(
            row.name, MEAN, "avg@K", mean_of(averaged), known, mean_rerun(averaged), any(one.marked for one in averaged)
        )


def part_lines(table: ResultTable, part: LoadedPart, group: PublishedGroup) -> list[MeasuredLine]:
    """Return the measured lines of a group's rows; none if the part shows no measured rows."""
    columns = [column for column in part.table.columns if column.samples]
    return [line for row in group.rows for line in lines(table, columns, row)] if part.measured else []


def stranger_lines(table: ResultTable) -> list[MeasuredLine]:
    """Return the measured lines of rows that no part prints."""
    named = {column.key: column.name for part in table.parts for column in part.table.columns}
    columns = [PublishedColumn(key, named[key]) for key in table.benchmarks]
    return [line for label in table.strangers for line in lines(table, columns, PublishedRow(label, label, {}))]


def beside_grid(measured: Sequence[MeasuredLine], title: str) -> Iterator[PageTable]:
    """Yield the table of these lines; nothing if there are none."""
    if measured:
        notes = [NOTE, *([MAJ] if any("maj" in line.metric for line in measured) else [])]
        notes += [MARK] if any(line.marked for line in measured) else []
        header = ("", "printed", "measured", "difference", "rerun SD", "printed value")
        yield PageTable(header, tuple(line.cells() for line in measured), title, tuple(notes))


def comparisons(table: ResultTable) -> list[Comparison]:
    """Return every pair of measured rows on every benchmark and on their mean; Holm's p is over a column's pairs."""
    names = table.benchmarks
    columns = [[name] for name in names] + ([names] if len(names) > 1 else [])
    return [pair for column in columns for pair in compared(table.measured, column, table.labels)]


def comparison_grids(table: ResultTable) -> Iterator[PageTable]:
    """Yield the table of differences between measured rows, with notes on rows that could not be paired."""
    pairs = {(pair.row, pair.against, pair.column): pair for pair in comparisons(table)}
    lacking = [*unpaired(table), *lonely(table)]
    columns = [name for name in [*table.benchmarks, MEAN] if any(name == key[2] for key in pairs)]
    rows = [
        (f"{row}\nminus {against}", *(difference(pairs.get((row, against, name))) for name in columns))
        for row, against in dict.fromkeys((row, against) for row, against, _ in pairs)
    ]
    note = "Paired by problem and seed, in points, with 95 % intervals; p is Holm's, for all pairs of a column."
    if rows or lacking:
        yield PageTable(("", *columns), tuple(rows), "Differences between measured rows, avg@K", (note, *lacking))


def unpaired(table: ResultTable) -> Iterator[str]:
    """Yield a note for each pair of rows on a benchmark whose seeds do not match."""
    for name in table.benchmarks:
        here = [label for label in table.labels if (label, name) in table.measured]
        for left, right in combinations(here, 2):
            if not pairable(table.measured[left, name], table.measured[right, name]):
                yield f"{left} and {right} are not compared on {name}: other seeds."


def lonely(table: ResultTable) -> Iterator[str]:
    """Yield a note for each row of one seed beside rows of several: its training noise is in no interval."""
    for label in table.labels:
        for name in table.benchmarks:
            mine = table.measured.get((label, name))
            others = [len(table.measured[key].seeds) for key in table.measured if key[1] == name and key[0] != label]
            if mine and len(mine.seeds) == 1 and max(others, default=1) > 1:
                yield f"{label} has one seed, set against each of the others': its training noise is in no interval."
                break


def difference(pair: Comparison | None) -> str:
    """Return a difference with its words on a second line."""
    if pair is None:
        return NONE
    gap = pair.difference
    bounds = "unknown" if math.isnan(gap.low) else f"{POINTS * gap.low:+.1f}, {POINTS * gap.high:+.1f}"
    return f"{POINTS * gap.value:+.1f} [{bounds}]\n{pair.words} ({show_p(pair.p)})"


def curve_grids(table: ResultTable) -> Iterator[PageTable]:
    """Yield the table of pass@k for k = 1, 2, 4 ... K; the CSV has every k."""
    passed = {key: row for key, row in table.measured.items() if "pass" in row.metrics}
    if passed:
        most = max(row.samples for row in passed.values())
        chosen = [2**power for power in range(most.bit_length()) if 2**power <= most]
        rows = tuple((f"{label} {name}", *curve_cells(row, chosen)) for (label, name), row in passed.items())
        yield PageTable(
            ("", *(f"k={k}" for k in chosen)), rows, "pass@k, measured", ("Unbiased, of K samples, in points.",)
        )


def curve_cells(row: MeasuredRow, chosen: Sequence[int]) -> list[str]:
    """Return pass@k in points for the chosen k."""
    return [f"{POINTS * row.curve[k - 1]:.1f}" if k <= row.samples else NONE for k in chosen]


def month_grids(table: ResultTable) -> Iterator[PageTable]:
    """Yield accuracy by the month of the problems, one table per benchmark whose results record dates."""
    for name in table.benchmarks:
        measured = {label: row.months() for label in table.labels if (row := table.measured.get((label, name)))}
        measured = {label: months for label, months in measured.items() if months}
        if measured:
            months = sorted({month for by_month in measured.values() for month in by_month})
            sizes = {
                month: next(by_month[month].problems for by_month in measured.values() if month in by_month)
                for month in months
            }
            rows = tuple(
                (
                    f"{month} ({sizes[month]})",
                    *(points(by_month[month]) if month in by_month else NONE for by_month in measured.values()),
                )
                for month in months
            )
            note = "Number of problems in brackets; 95 % intervals over problems and seeds."
            yield PageTable(("", *measured), rows, f"{name}: avg@K by month", (note,))


def points(interval: Interval) -> str:
    """Return an interval in points, as in ``48.5 [34.1, 62.3]``."""
    if math.isnan(interval.low):
        return f"{POINTS * interval.value:.1f} [unknown]"
    return f"{POINTS * interval.value:.1f} [{POINTS * interval.low:.1f}, {POINTS * interval.high:.1f}]"
