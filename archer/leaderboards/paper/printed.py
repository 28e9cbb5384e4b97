"""Tables of printed numbers: averages recomputed, counts checked, gaps beside the noise that explains them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from archer.leaderboards.layouts import PageTable
from archer.leaderboards.paper.noise import BenchmarkSpread, RowGap, gaps, own_difficulty
from archer.leaderboards.paper.specs import LoadedPart
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


def printed_grid(part: LoadedPart, group: PublishedGroup) -> PageTable:
    """Return the table of a group's printed numbers with its averages recomputed."""
    table = part.table
    means = [recomputed(table, row) for row in group.rows]
    header = ["", *(f"{column.name}\n@{column.samples}" if column.samples else column.name for column in table.columns)]
    header += [table.average] if table.average else []
    header += ["of\ncells"] if any(means) else []
    rows = []
    for row, mean in zip(group.rows, means, strict=True):
        cells = [row.name, *(row.cells[column.key] for column in table.columns)]
        cells += [row.average] if table.average else []
        cells += [f"{mean.computed:.2f}{'' if mean.follows else '!'}" if mean else NONE] if any(means) else []
        rows.append(tuple(cells))
    own = frozenset((at, 0) for at, row in enumerate(group.rows) if row.own)
    title = f"{part.paper.paper} {table.place}, {group.name}: {table.title}"
    return PageTable(tuple(header), tuple(rows), title, tuple(flags(part, group)), own)


def flags(part: LoadedPart, group: PublishedGroup) -> Iterator[str]:
    """Yield the notes on a group's numbers: the paper's, and averages and counts that do not follow from the cells."""
    table = part.table
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


def noise_grids(part: LoadedPart, group: PublishedGroup, known: Mapping[str, BenchmarkSpread]) -> Iterator[PageTable]:
    """Yield, for each row of the paper's own method, its gaps to the other rows with the noise that explains them."""
    for own in (row for row in group.rows if row.own):
        others = [(row, gaps(part.table, group, (own, row), known)) for row in group.rows if not row.own]
        rivals = [(row, by_column) for row, by_column in others if by_column]
        if rivals:
            yield noise_grid(part, group, own, rivals)


def noise_grid(
    part: LoadedPart,
    group: PublishedGroup,
    own: PublishedRow,
    rivals: Sequence[tuple[PublishedRow, Mapping[str, RowGap]]],
) -> PageTable:
    """Return the table of one row's gaps, with the half-widths of its gap to the best rival below."""
    table = part.table
    names = {column.key: column.name for column in table.columns} | {"": table.average}
    keys = [key for key in names if any(key in by_column for _, by_column in rivals)]
    rows = [(f"minus {row.name}", *(gap_cell(row_gaps.get(key)) for key in keys)) for row, row_gaps in rivals]
    best, widths = max(rivals, key=lambda pair: level(part, pair[0]))
    rows += [(f"± {kind}", *(half_width(widths.get(key), kind) for key in keys)) for kind in KINDS]
    notes = [line for row, row_gaps in rivals if (line := cannot(own, row, row_gaps, names))]
    notes.append(f"±: half-widths of the gap to {best.name}.")
    if any(borrows(part.table, group, row) for row in (own, *(row for row, _ in rivals))):
        notes.append(BORROWED)
    return PageTable(
        ("", *(names[key] for key in keys)), tuple(rows), f"Noise: {own.name}, {table.place}", tuple(notes)
    )


def borrows(table: PaperTable, group: PublishedGroup, row: PublishedRow) -> bool:
    """Return whether a row has a cell whose own numbers do not determine its difficulty."""
    columns = [
        table.column(listed.key, group) for listed in table.columns if listed.samples and scored(row.cells[listed.key])
    ]
    return any(own_difficulty(column, row) is None for column in columns)


def level(part: LoadedPart, row: PublishedRow) -> float:
    """Return the mean of a row's printed cells."""
    cells = [cell for column in part.table.columns if (cell := scored(row.cells[column.key]))]
    return sum(float(cell.average) for cell in cells) / max(len(cells), 1)


def gap_cell(gap: RowGap | None) -> str:
    """Return a gap with the word for its noise on a second line."""
    return f"{gap.value:+.1f}\n{gap.words}" if gap else NONE


def half_width(gap: RowGap | None, kind: str) -> str:
    """Return the half-width of a gap's noise of one kind."""
    return f"{getattr(gap, kind):.1f}" if gap else NONE


def cannot(own: PublishedRow, rival: PublishedRow, by_column: Mapping[str, RowGap], names: Mapping[str, str]) -> str:
    """Return the sentence on the columns where two rows cannot be told apart; empty if there are none."""
    where = [names[key] for key, gap in by_column.items() if not gap.apart]
    return f"{own.name} and {rival.name} cannot be told apart on {', '.join(where)}." if where else ""
