"""Printed numbers as tables: averages recomputed, counts checked, gaps beside the noise that explains them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from archer.leaderboards.layouts import PageTable
from archer.leaderboards.paper.noise import BenchmarkSpread, RowGap, gaps, own_difficulty
from archer.leaderboards.paper.specs import TableChapter
from archer.leaderboards.published import NONE, PaperTable, PublishedGroup, PublishedRow, odd_counts, recomputed, scored

NOISE = (
    "Noise of printed gaps, 95 %, modelled from the printed avg@K and pass@K, which pin a beta distribution of "
    "difficulty. rerun: no more than the same problems sampled anew would give; inside: no more than other problems, "
    "the same for both models, would give, if the models' chances correlate by 0.8 (assumed); paired: more than that, "
    "but no more than other problems for each model would; clear: more than all three. rerun and inside: cannot be "
    "told apart. One training run each: the noise of training is not printed and comes on top."
)
BORROWED = (
    "Without pass@K, or where no beta distribution has both numbers, difficulty is taken from the benchmark's other "
    "printed cells."
)
KINDS = ("unpaired", "paired", "rerun")


def printed_grid(chapter: TableChapter, group: PublishedGroup) -> PageTable:
    """Return a group's printed numbers, averages recomputed."""
    table = chapter.table
    means = [recomputed(table, row) for row in group.rows]
    header = ["", *(f"{one.name}\n@{one.samples}" if one.samples else one.name for one in table.columns)]
    header += [table.average] if table.average else []
    header += ["of\ncells"] if any(means) else []
    rows = []
    for row, mean in zip(group.rows, means, strict=True):
        cells = [row.name, *(row.cells[one.key] for one in table.columns)]
        cells += [row.average] if table.average else []
        cells += [f"{mean.computed:.2f}{'' if mean.follows else '!'}" if mean else NONE] if any(means) else []
        rows.append(tuple(cells))
    own = frozenset((at, 0) for at, row in enumerate(group.rows) if row.own)
    title = f"{chapter.paper.paper} {table.place}, {group.name}: {table.title}"
    return PageTable(tuple(header), tuple(rows), title, tuple(flags(chapter, group)), own)


def flags(chapter: TableChapter, group: PublishedGroup) -> Iterator[str]:
    """Yield what a reader must know of a group's numbers: notes, averages and counts that do not follow."""
    table = chapter.table
    yield from table.notes if group is table.groups[0] else ()
    for row in group.rows:
        if row.note:
            yield f"{row.name}: {row.note}."
        mean = recomputed(table, row)
        if mean and not mean.follows:
            why = "" if mean.reachable else "; rounding the cells cannot explain it"
            yield f"! {row.name}: {mean.printed} printed, {mean.computed:.2f} recomputed from its cells{why}."
    for owner, row, column in odd_counts(table):
        if owner is group:
            cell = row.cells[column.key]
            yield f"{row.name}, {column.name} {cell}: its pass@K is no whole number of {column.problems} problems."


def noise_grids(
    chapter: TableChapter, group: PublishedGroup, known: Mapping[str, BenchmarkSpread]
) -> Iterator[PageTable]:
    """Yield, for each row of the paper's own method, its gap to every other row with the noise that explains it."""
    for own in (row for row in group.rows if row.own):
        others = [(row, gaps(chapter.table, group, (own, row), known)) for row in group.rows if not row.own]
        found = [(row, by_column) for row, by_column in others if by_column]
        if found:
            yield noise_grid(chapter, group, own, found)


def noise_grid(
    chapter: TableChapter,
    group: PublishedGroup,
    own: PublishedRow,
    found: Sequence[tuple[PublishedRow, Mapping[str, RowGap]]],
) -> PageTable:
    """Return one row's gaps to others, with the half-widths of the gap to the best of them below."""
    table = chapter.table
    names = {one.key: one.name for one in table.columns} | {"": table.average}
    keys = [key for key in names if any(key in by_column for _, by_column in found)]
    rows = [(f"minus {row.name}", *(told(one.get(key)) for key in keys)) for row, one in found]
    best, widths = max(found, key=lambda pair: level(chapter, pair[0]))
    rows += [(f"± {kind}", *(half_width(widths.get(key), kind) for key in keys)) for kind in KINDS]
    notes = [line for row, one in found if (line := cannot(own, row, one, names))]
    notes.append(f"±: half-widths of the gap to {best.name}.")
    if any(borrows(chapter.table, group, row) for row in (own, *(row for row, _ in found))):
        notes.append(BORROWED)
    return PageTable(
        ("", *(names[key] for key in keys)), tuple(rows), f"Noise: {own.name}, {table.place}", tuple(notes)
    )


def borrows(table: PaperTable, group: PublishedGroup, row: PublishedRow) -> bool:
    """Say whether a row has a cell whose own numbers do not tell how hard its problems are."""
    columns = [table.column(one.key, group) for one in table.columns if one.samples and scored(row.cells[one.key])]
    return any(own_difficulty(column, row) is None for column in columns)


def level(chapter: TableChapter, row: PublishedRow) -> float:
    """Return a row's mean over its printed cells."""
    cells = [cell for one in chapter.table.columns if (cell := scored(row.cells[one.key]))]
    return sum(float(cell.average) for cell in cells) / max(len(cells), 1)


def told(gap: RowGap | None) -> str:
    """Return a gap over the word for its noise."""
    return f"{gap.value:+.1f}\n{gap.words}" if gap else NONE


def half_width(gap: RowGap | None, kind: str) -> str:
    """Return a half-width."""
    return f"{getattr(gap, kind):.1f}" if gap else NONE


def cannot(own: PublishedRow, rival: PublishedRow, by_column: Mapping[str, RowGap], names: Mapping[str, str]) -> str:
    """Return the sentence on where two rows cannot be told apart, empty where they can everywhere."""
    where = [names[key] for key, gap in by_column.items() if not gap.apart]
    return f"{own.name} and {rival.name} cannot be told apart on {', '.join(where)}." if where else ""
