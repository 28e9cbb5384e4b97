"""A table with all that it shows: printed chapters, what is known of their noise, measured rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from archer.leaderboards.paper.collect import Key, collect, left_out, sort_out
from archer.leaderboards.paper.measured import MeasuredRow, measure
from archer.leaderboards.paper.noise import BenchmarkSpread, spreads
from archer.leaderboards.paper.specs import TableChapter, TableSpec, chapters, read_spec
from archer.leaderboards.published import paper_names, read_paper
from archer.system import suite


@dataclass(frozen=True)
class ResultTable:
    """``known`` holds each benchmark's spread in print, ``measured`` the results by label and benchmark.

    ``left_out`` tells of files among the results that are not shown.
    """

    spec: TableSpec
    chapters: tuple[TableChapter, ...]
    known: Mapping[str, BenchmarkSpread]
    measured: Mapping[Key, MeasuredRow]
    left_out: tuple[str, ...] = ()

    @property
    def benchmarks(self) -> list[str]:
        """The columns that results may be of, in order."""
        return benchmarks_of(self.chapters)

    @property
    def labels(self) -> list[str]:
        """The measured rows, published ones first."""
        told = [row.key for one in self.chapters for _, row in one.table.rows()]
        labels = list(dict.fromkeys(label for label, _ in self.measured))
        return [*dict.fromkeys(key for key in told if key in labels), *self.strangers]

    @property
    def strangers(self) -> list[str]:
        """Measured rows that no chapter prints."""
        printed = {row.key for one in self.chapters for _, row in one.table.rows()}
        return list(dict.fromkeys(label for label, _ in self.measured if label not in printed))


def benchmarks_of(parts: Sequence[TableChapter]) -> list[str]:
    """Return the benchmarks that chapters open to results have for columns."""
    columns = [column for one in parts if one.measured for column in one.table.columns if column.samples]
    return list(dict.fromkeys(column.key for column in columns))


def open_table(name: str, results: Sequence[Path], lenient: bool = False) -> ResultTable:
    """Read a table and the results that belong to it. Raises DataError for what does not belong.

    ``lenient`` shows, with a mark, results drawn otherwise than their benchmark says.
    """
    spec = read_spec(name)
    return assemble(spec, chapters(spec), results, lenient)


def assemble(
    spec: TableSpec, parts: Sequence[TableChapter], results: Sequence[Path], lenient: bool = False
) -> ResultTable:
    """Put results beside the printed chapters. Raises DataError for results that do not belong."""
    gathered = collect(results)
    rows = sort_out(gathered.found, benchmarks_of(parts), lenient)
    return ResultTable(spec, tuple(parts), known_spreads(), measure(rows), tuple(left_out(gathered)))


def known_spreads() -> dict[str, BenchmarkSpread]:
    """Return what all published numbers say of each benchmark."""
    return spreads([read_paper(name) for name in paper_names()])


def results_folders(given: Path | None) -> list[Path]:
    """Return where results are looked for: the given folder, else the committed ones and ``./results``."""
    if given is not None:
        return [given]
    return [folder for folder in (suite("leaderboards") / "results", Path("results")) if folder.is_dir()]
