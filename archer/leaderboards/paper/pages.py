"""A table of ours as a page."""

from __future__ import annotations

from collections.abc import Iterator

from archer.evaluation.benchmark import read_benchmark, unconfirmed
from archer.leaderboards.layouts import Page, PageTable
from archer.leaderboards.paper.comparison import (
    beside_grid,
    chapter_lines,
    comparison_grids,
    curve_grids,
    month_grids,
    stranger_lines,
)
from archer.leaderboards.paper.printed import NOISE, noise_grids, printed_grid
from archer.leaderboards.paper.specs import TableChapter
from archer.leaderboards.paper.table import ResultTable


def page(board: ResultTable) -> Page:
    """Return the whole page: what is printed and its noise, measured rows beside it and against each other."""
    grids = [grid for chapter in board.chapters for grid in chapter_grids(board, chapter)]
    grids += beside_grid(stranger_lines(board), "Measured, of no paper")
    grids += [*comparison_grids(board), *curve_grids(board), *month_grids(board)]
    return Page(board.spec.title, tuple(grids), tuple(notes(board, grids)))


def chapter_grids(board: ResultTable, chapter: TableChapter) -> Iterator[PageTable]:
    """Yield a published table, a group at a time, each with its noise and with what was measured."""
    for group in chapter.table.groups:
        yield printed_grid(chapter, group)
        yield from noise_grids(chapter, group, board.known)
        title = f"Measured beside {chapter.table.place}, {group.name}"
        yield from beside_grid(chapter_lines(board, chapter, group), title)


def notes(board: ResultTable, grids: list[PageTable]) -> Iterator[str]:
    """Yield what holds for the whole page."""
    yield from board.spec.notes
    yield from dict.fromkeys(f"{one.paper.paper} {one.paper.version}: {one.paper.title}." for one in board.chapters)
    yield from dict.fromkeys(note for one in board.chapters for note in one.paper.notes)
    if any(grid.title.startswith("Noise") for grid in grids):
        yield NOISE
    for name in dict.fromkeys(benchmark for _, benchmark in board.measured):
        benchmark = read_benchmark(name)
        yield from unconfirmed(benchmark)
        if not benchmark.sha256:
            yield f"{name} pins no checksum yet: its results agree with each other, but with nothing else."
    yield from board.left_out
    if board.benchmarks and not board.measured:
        yield "No result of ours yet: printed numbers only."
