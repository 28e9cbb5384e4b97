"""A table of ours as CSV: every number on a line of its own, with where it comes from."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from archer.evaluation.statistics import Interval
from archer.leaderboards.paper.comparison import MeasuredLine, chapter_lines, comparisons, stranger_lines
from archer.leaderboards.paper.measured import POINTS
from archer.leaderboards.paper.noise import gaps
from archer.leaderboards.paper.specs import TableChapter
from archer.leaderboards.paper.table import ResultTable
from archer.leaderboards.published import NONE, PublishedGroup, recomputed, scored


@dataclass(frozen=True)
class ExportedNumber:
    """One number. ``source`` is printed, recomputed, noise or measured; bounds are those of a 95 % interval."""

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


def table_csv(board: ResultTable) -> str:
    """Return all lines as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [one.name for one in fields(ExportedNumber)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(one) for one in entries(board))
    return text.getvalue()


def entries(board: ResultTable) -> Iterator[ExportedNumber]:
    """Yield every number of a table."""
    for chapter in board.chapters:
        for group in chapter.table.groups:
            yield from printed(chapter, group)
            yield from noise(board, chapter, group)
            for one in chapter_lines(board, chapter, group):
                yield measured(chapter.table.place, group.name, one)
    for one in stranger_lines(board):
        yield measured(NONE, NONE, one)
    yield from differences(board)
    yield from details(board)


def printed(chapter: TableChapter, group: PublishedGroup) -> Iterator[ExportedNumber]:
    """Yield what a paper prints, and its averages recomputed."""
    place = f"{chapter.paper.paper} {chapter.paper.version}, {chapter.table.place}"
    for row in group.rows:
        for one in chapter.table.columns:
            column, cell = chapter.table.column(one.key, group), scored(row.cells[one.key])
            where = ("printed", place, group.name, row.name, column.name)
            if cell and column.samples:
                yield ExportedNumber(*where, f"avg@{column.samples}", str(cell.average), problems=column.problems)
                if cell.solved is not None:
                    yield ExportedNumber(*where, f"pass@{column.samples}", str(cell.solved), problems=column.problems)
            else:
                yield ExportedNumber(*where, column.name, row.cells[one.key])
        if row.average != NONE:
            yield ExportedNumber("printed", place, group.name, row.name, chapter.table.average, "mean", row.average)
        if mean := recomputed(chapter.table, row):
            words = "follows" if mean.follows else "does not follow"
            where = ("recomputed", place, group.name, row.name, chapter.table.average)
            yield ExportedNumber(*where, "mean", f"{mean.computed:.3f}", words=words)


def noise(board: ResultTable, chapter: TableChapter, group: PublishedGroup) -> Iterator[ExportedNumber]:
    """Yield printed gaps with the half-widths of their noise as intervals."""
    names = {one.key: one.name for one in chapter.table.columns} | {"": chapter.table.average}
    for own in (row for row in group.rows if row.own):
        for other in (row for row in group.rows if not row.own):
            for key, gap in gaps(chapter.table, group, (own, other), board.known).items():
                where = ("noise", chapter.table.place, group.name, f"{own.name} minus {other.name}", names[key])
                for kind in ("unpaired", "paired", "rerun"):
                    width = getattr(gap, kind)
                    bounds = (round(gap.value - width, 3), round(gap.value + width, 3))
                    yield ExportedNumber(*where, f"gap, {kind}", round(gap.value, 3), *bounds, words=gap.words)


def measured(place: str, group: str, one: MeasuredLine) -> ExportedNumber:
    """Return a measured score, with what it says of the printed one."""
    return ExportedNumber(
        "measured", place, group, one.row, one.column, one.metric, *scaled(one.measured), words=one.words
    )


def scaled(one: Interval) -> tuple[float, float, float, int, int]:
    """Return an interval in points with its seeds and problems."""
    return POINTS * one.value, POINTS * one.low, POINTS * one.high, one.seeds, one.problems


def differences(board: ResultTable) -> Iterator[ExportedNumber]:
    """Yield the paired differences of measured rows."""
    for one in comparisons(board):
        words = f"{one.words}, Holm's p {one.p:.4f}"
        yield ExportedNumber(
            "measured", NONE, NONE, f"{one.row} minus {one.against}", one.column, "avg@K", *scaled(one.difference),
            words=words,
        )  # fmt: skip


def details(board: ResultTable) -> Iterator[ExportedNumber]:
    """Yield each measured row's rerun SD, pass@k for every k, and accuracy by month."""
    for (label, name), one in board.measured.items():
        where = ("measured", NONE, NONE, label, name)
        yield ExportedNumber(*where, "rerun SD", POINTS * one.rerun)
        for k, value in enumerate(one.curve, start=1):
            yield ExportedNumber(*where, f"pass@{k}, curve", POINTS * float(value))
        for month, found in one.months().items():
            yield ExportedNumber(*where, f"avg@{one.samples}, {month}", *scaled(found))
