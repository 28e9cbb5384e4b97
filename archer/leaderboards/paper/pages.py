"""A result table as a page."""

from __future__ import annotations

from collections.abc import Iterator

from archer.evaluation.benchmark import read_benchmark, unconfirmed
from archer.leaderboards.layouts import Page, PageTable
from archer.leaderboards.paper.comparison import (
    beside_grid,
    comparison_grids,
    curve_grids,
    month_grids,
    part_lines,
    stranger_lines,
)
from archer.leaderboards.paper.printed import NOISE, noise_grids, printed_grid
from archer.leaderboards.paper.specs import LoadedPart
from archer.leaderboards.paper.table import ResultTable


def page(table: ResultTable) -> Page:
    """Return the page: printed numbers with their noise, measured rows beside them and compared with each other."""
    grids = [grid for part in table.parts for grid in part_grids(table, part)]
    grids += beside_grid(stranger_lines(table), "Measured, of no paper")
    grids += [*comparison_grids(table), *curve_grids(table), *month_grids(table)]
    return Page(table.spec.title, tuple(grids), tuple(notes(table, grids)))


def part_grids(table: ResultTable, part: LoadedPart) -> Iterator[PageTable]:
    """Yield a published table, one group at a time, each with its noise and with what was measured."""
    for group in part.table.groups:
        yield printed_grid(part, group)
        yield from noise_grids(part, group, table.known)
        title = f"Measured beside {part.table.place}, {group.name}"
        yield from beside_grid(part_lines(table, part, group), title)


def notes(table: ResultTable, grids: list[PageTable]) -> Iterator[str]:
    """Yield the notes of the whole page."""
    yield from table.spec.notes
    yield from dict.fromkeys(f"{part.paper.paper} {part.paper.version}: {part.paper.title}." for part in table.parts)
    yield from dict.fromkeys(note for part in table.parts for note in part.paper.notes)
    if any(grid.title.startswith("Noise") for grid in grids):
        yield NOISE
    for name in dict.fromkeys(benchmark for _, benchmark in table.measured):
        benchmark = read_benchmark(name)
        yield from unconfirmed(benchmark)
        if not benchmark.sha256:
            yield f"{name} pins no checksum yet: its results agree with each other, but with nothing else."
    yield from table.left_out
    if table.benchmarks and not table.measured:
        yield "No result of ours yet: printed numbers only."
