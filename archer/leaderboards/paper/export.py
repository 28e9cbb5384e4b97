"""A result table as CSV: one row per number, with its source."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from archer.evaluation.statistics import Interval
from archer.leaderboards.paper.comparison import MeasuredLine, comparisons, part_lines, stranger_lines
from archer.leaderboards.paper.measured import POINTS
from archer.leaderboards.paper.noise import gaps
from archer.leaderboards.paper.specs import LoadedPart
from archer.leaderboards.paper.table import ResultTable
from archer.leaderboards.published import NONE, PublishedGroup, recomputed, scored


@dataclass(frozen=True)
class ExportedNumber:
    """One number. ``source`` is printed, recomputed, noise or measured; ``low`` and ``high`` bound a 95 % interval."""

    source: str
    place: str
    group: str
    row: str
    column: str
    metric: str
    value: str | float
    low: float | None = None
    high: float | None = None
    seeds: int | None = None
    problems: int | None = None
    words: str = ""


def table_csv(table: ResultTable) -> str:
    """Return all numbers of a table as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [column.name for column in fields(ExportedNumber)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(number) for number in entries(table))
    return text.getvalue()


def entries(table: ResultTable) -> Iterator[ExportedNumber]:
    """Yield every number of a table."""
    for part in table.parts:
        for group in part.table.groups:
            yield from printed(part, group)
            yield from noise(table, part, group)
            for line in part_lines(table, part, group):
                yield measured(part.table.place, group.name, line)
    for line in stranger_lines(table):
        yield measured(NONE, NONE, line)
    yield from differences(table)
    yield from details(table)


def printed(part: LoadedPart, group: PublishedGroup) -> Iterator[ExportedNumber]:
    """Yield the numbers that a paper prints, and its averages recomputed."""
    place = f"{part.paper.paper} {part.paper.version}, {part.table.place}"
    for row in group.rows:
        for listed in part.table.columns:
            column, cell = part.table.column(listed.key, group), scored(row.cells[listed.key])
            where = ("printed", place, group.name, row.name, column.name)
            if cell and column.samples:
                yield ExportedNumber(*where, f"avg@{column.samples}", str(cell.average), problems=column.problems)
                if cell.solved is not None:
                    yield ExportedNumber(*where, f"pass@{column.samples}", str(cell.solved), problems=column.problems)
            else:
                yield ExportedNumber(*where, column.name, row.cells[listed.key])
        if row.average != NONE:
            yield ExportedNumber("printed", place, group.name, row.name, part.table.average, "mean", row.average)
        if mean := recomputed(part.table, row):
            words = "follows" if mean.follows else "does not follow"
            where = ("recomputed", place, group.name, row.name, part.table.average)
            yield ExportedNumber(*where, "mean", f"{mean.computed:.3f}", words=words)


def noise(table: ResultTable, part: LoadedPart, group: PublishedGroup) -> Iterator[ExportedNumber]:
    """Yield printed gaps, with the half-widths of their noise as intervals."""
    names = {column.key: column.name for column in part.table.columns} | {"": part.table.average}
    for own in (row for row in group.rows if row.own):
        for other in (row for row in group.rows if not row.own):
            for key, gap in gaps(part.table, group, (own, other), table.known).items():
                where = ("noise", part.table.place, group.name, f"{own.name} minus {other.name}", names[key])
                for kind in ("unpaired", "paired", "rerun"):
                    width = getattr(gap, kind)
                    bounds = (round(gap.value - width, 3), round(gap.value + width, 3))
                    yield ExportedNumber(*where, f"gap, {kind}", round(gap.value, 3), *bounds, words=gap.words)


def measured(place: str, group: str, line: MeasuredLine) -> ExportedNumber:
    """Return a measured score; ``words`` compare it with the printed one."""
    return ExportedNumber(
        "measured", place, group, line.row, line.column, line.metric, *scaled(line.measured), words=line.words
    )


def scaled(interval: Interval) -> tuple[float, float, float, int, int]:
    """Return an interval in points, with its seeds and problems."""
    return POINTS * interval.value, POINTS * interval.low, POINTS * interval.high, interval.seeds, interval.problems


def differences(table: ResultTable) -> Iterator[ExportedNumber]:
    """Yield the paired differences between measured rows."""
    for pair in comparisons(table):
        words = f"{pair.words}, Holm's p {pair.p:.4f}"
        yield ExportedNumber(
            "measured", NONE, NONE, f"{pair.row} minus {pair.against}", pair.column, "avg@K", *scaled(pair.difference),
            words=words,
        )  # fmt: skip


def details(table: ResultTable) -> Iterator[ExportedNumber]:
    """Yield each measured row's rerun SD, pass@k for every k, and accuracy by month."""
    for (label, name), row in table.measured.items():
        where = ("measured", NONE, NONE, label, name)
        yield ExportedNumber(*where, "rerun SD", POINTS * row.rerun)
        for k, value in enumerate(row.curve if "pass" in row.metrics else (), start=1):
            yield ExportedNumber(*where, f"pass@{k}, curve", POINTS * float(value))
        for month, interval in row.months().items():
            yield ExportedNumber(*where, f"avg@{row.samples}, {month}", *scaled(interval))
