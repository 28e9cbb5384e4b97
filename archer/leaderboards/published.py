"""Numbers that papers print: ``leaderboards/published/<paper>.yaml``, read and checked, their averages recomputed.

Printed numbers stay text, so that trailing zeros survive and a correction can be told from a rounding. A cell is
``avg/pass`` in points (``48.7/83.3``), ``avg`` alone, ``-`` if the paper prints none, or, in a column without
``samples``, any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from pydantic import with_config

from archer.errors import DataError, RecipeError, did_you_mean
from archer.recipe.config import STRICT, read_yaml, typed
from archer.system import suite

SCORE = re.compile(r"(\d{1,3}\.\d+)(?:/(\d{1,3}\.\d+))?")
NONE = "-"


@with_config(STRICT)
@dataclass(frozen=True)
class PublishedColumn:
    """A column: a benchmark of P ``problems`` x K ``samples`` (0: not stated, or not a benchmark)."""

    key: str
    name: str
    problems: int = 0
    samples: int = 0


@with_config(STRICT)
@dataclass(frozen=True)
class PublishedRow:
    """A row. ``key`` is the label under which results for it are measured; ``own`` marks the paper's own method."""

    key: str
    name: str
    cells: Mapping[str, str]
    average: str = NONE
    own: bool = False
    note: str = ""


@with_config(STRICT)
@dataclass(frozen=True)
class PublishedGroup:
    """Rows that share a base model; ``problems`` overrides the columns' numbers of problems."""

    name: str
    rows: tuple[PublishedRow, ...]
    problems: Mapping[str, int] = field(default_factory=dict)


@with_config(STRICT)
@dataclass(frozen=True)
class PaperTable:
    """A table, or a sentence with numbers; ``place`` tells where in the paper.

    ``average`` names the column of means, empty if there is none.
    """

    key: str
    place: str
    title: str
    columns: tuple[PublishedColumn, ...]
    groups: tuple[PublishedGroup, ...]
    average: str = ""
    notes: tuple[str, ...] = ()

    def column(self, key: str, group: PublishedGroup) -> PublishedColumn:
        """Return a column with the group's number of problems."""
        listed = next(column for column in self.columns if column.key == key)
        return PublishedColumn(listed.key, listed.name, group.problems.get(key, listed.problems), listed.samples)

    def rows(self) -> Iterator[tuple[PublishedGroup, PublishedRow]]:
        """Yield every row with its group."""
        return ((group, row) for group in self.groups for row in group.rows)


@with_config(STRICT)
@dataclass(frozen=True)
class PublishedPaper:
    """The tables of one version of one paper (or repository)."""

    paper: str
    version: str
    title: str
    tables: tuple[PaperTable, ...]
    notes: tuple[str, ...] = ()

    def table(self, key: str) -> PaperTable:
        """Return a table. Raises DataError for an unknown key."""
        tables = {table.key: table for table in self.tables}
        if key not in tables:
            raise DataError(f"{self.paper}: no table {key!r}{did_you_mean(key, tables)}")
        return tables[key]


@dataclass(frozen=True)
class PrintedScore:
    """A cell's numbers in points; ``solved`` (pass@K) is None if only the average is printed."""

    average: Decimal
    solved: Decimal | None


@dataclass(frozen=True)
class PrintedMean:
    """A printed average and the mean of the row's cells."""

    printed: Decimal
    computed: Decimal

    @property
    def follows(self) -> bool:
        """Whether the cells' mean rounds to the printed average; a tie (74.65) may be rounded either way."""
        return abs(self.printed - self.computed) <= self.unit / 2

    @property
    def reachable(self) -> bool:
        """Whether rounding the cells before averaging could explain the difference."""
        return abs(self.printed - self.computed) <= self.unit

    @property
    def unit(self) -> Decimal:
        """One unit in the last printed digit."""
        return Decimal(1).scaleb(int(self.printed.as_tuple().exponent))


def scored(cell: str) -> PrintedScore | None:
    """Return a cell's numbers; None for ``-`` and for text that is not a score."""
    match = SCORE.fullmatch(cell)
    return PrintedScore(Decimal(match[1]), Decimal(match[2]) if match[2] else None) if match else None


def recomputed(table: PaperTable, row: PublishedRow) -> PrintedMean | None:
    """Return the printed average and the mean of the row's cells; None if one of them is missing."""
    cells = [scored(row.cells[column.key]) for column in table.columns]
    known = [cell.average for cell in cells if cell is not None]
    if row.average == NONE or len(known) != len(cells) or not known:
        return None
    return PrintedMean(Decimal(row.average), sum(known, Decimal(0)) / len(known))


def whole(solved: Decimal, problems: int) -> bool:
    """Return whether a whole number of solved problems rounds to this pass@K (in points); true pass@K always does."""
    near = int(solved * problems / 100)
    shares = (Decimal(100 * count) / problems for count in range(max(near - 1, 0), near + 3))
    return any(share.quantize(solved, ROUND_HALF_UP) == solved for share in shares)


def odd_counts(table: PaperTable) -> Iterator[tuple[PublishedGroup, PublishedRow, PublishedColumn]]:
    """Yield the cells whose pass@K is not a whole number of solved problems."""
    for group, row in table.rows():
        for listed in table.columns:
            column, cell = table.column(listed.key, group), scored(row.cells[listed.key])
            if cell and cell.solved is not None and column.problems and not whole(cell.solved, column.problems):
                yield group, row, column


def paper_names(folder: Path | None = None) -> list[str]:
    """Return the names of all papers."""
    return sorted(path.stem for path in place(folder).glob("*.yaml"))


def place(folder: Path | None) -> Path:
    """Return the given folder, or that of the shipped published numbers."""
    return folder or suite("leaderboards") / "published"


def read_paper(name: str, folder: Path | None = None) -> PublishedPaper:
    """Read ``leaderboards/published/<name>.yaml``. Raises DataError naming the file, row and cell that is wrong."""
    path = place(folder) / f"{name}.yaml"
    if not path.is_file():
        raise DataError(f"no published numbers {name!r}{did_you_mean(name, paper_names(folder))}")
    where = f"published/{path.name}"
    try:
        paper = typed(PublishedPaper, read_yaml(path), where)
    except RecipeError as error:
        raise DataError(f"{error}\n(printed numbers are written in quotes, so that trailing zeros survive)") from error
    for table in paper.tables:
        check(table, f"{where}: {table.key}")
    return paper


def check(table: PaperTable, where: str) -> None:
    """Raise DataError unless every row has a key of its own, exactly the table's columns, and valid scores."""
    columns = {column.key: column for column in table.columns}
    seen: set[str] = set()
    for group, row in table.rows():
        if row.key in seen:
            raise DataError(f"{where}: two rows have the key {row.key!r}; results could belong to either: rename one")
        seen.add(row.key)
        for key in row.cells.keys() ^ columns.keys():
            fault = "lacks a cell (write '-' if none is printed)" if key in columns else "has an unknown cell"
            raise DataError(f"{where}: {row.key}: {fault}: {key!r}{did_you_mean(key, columns)}")
        for key in group.problems.keys() - columns.keys():
            raise DataError(f"{where}: {group.name}: problems: unknown column {key!r}{did_you_mean(key, columns)}")
        for key, cell in row.cells.items():
            if columns[key].samples and cell != NONE and not valid(cell):
                raise DataError(f"{where}: {row.key}: {key}: {cell!r} is not avg/pass in points, as in '48.7/83.3'")
        if row.average != NONE and not valid(row.average):
            raise DataError(f"{where}: {row.key}: average: {row.average!r} is not a score in points, as in '59.1'")


def valid(cell: str) -> bool:
    """Return whether a cell holds scores of 0 to 100 with pass@K no lower than avg@K."""
    score = scored(cell)
    return score is not None and score.average <= (100 if score.solved is None else score.solved) <= 100
