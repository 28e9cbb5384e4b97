"""A table with all that it shows: published tables, what is known of their noise, measured rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from archer.leaderboards.paper.collect import Key, collect, left_out, sort_out
from archer.leaderboards.paper.measured import MeasuredRow, measure
from archer.leaderboards.paper.noise import BenchmarkSpread, spreads
from archer.leaderboards.paper.specs import LoadedPart, TableSpec, load_parts, read_spec
from archer.leaderboards.published import paper_names, read_paper
from archer.system import suite


@dataclass(frozen=True)
class ResultTable:
    """``known`` holds each benchmark's spread in print, ``measured`` the results by label and benchmark.

    ``left_out`` has a sentence on each kind of files among the results that are not shown.
    """

    spec: TableSpec
    parts: tuple[LoadedPart, ...]
    known: Mapping[str, BenchmarkSpread]
    measured: Mapping[Key, MeasuredRow]
    left_out: tuple[str, ...] = ()

    @property
    def benchmarks(self) -> list[str]:
        """The benchmarks of the columns beside which results are shown, in order."""
        return benchmarks_of(self.parts)

    @property
    def labels(self) -> list[str]:
        """The labels of the measured rows, those of published rows first."""
        printed = [row.key for part in self.parts for _, row in part.table.rows()]
        labels = list(dict.fromkeys(label for label, _ in self.measured))
        return [*dict.fromkeys(key for key in printed if key in labels), *self.strangers]

    @property
    def strangers(self) -> list[str]:
        """The labels of the measured rows that no part prints."""
        printed = {row.key for part in self.parts for _, row in part.table.rows()}
        return list(dict.fromkeys(label for label, _ in self.measured if label not in printed))


def benchmarks_of(parts: Sequence[LoadedPart]) -> list[str]:
    """Return the benchmarks that are columns of the parts with ``measured``, in order."""
    columns = [column for part in parts if part.measured for column in part.table.columns if column.samples]
    return list(dict.fromkeys(column.key for column in columns))


def open_table(name: str, results: Sequence[Path], lenient: bool = False) -> ResultTable:
    """Read a table and the results that belong to it. Raises DataError for results that do not belong.

    ``lenient`` shows, with a mark, results drawn with another sampling than their benchmark's.
    """
    spec = read_spec(name)
    return assemble(spec, load_parts(spec), results, lenient)


def assemble(
    spec: TableSpec, parts: Sequence[LoadedPart], results: Sequence[Path], lenient: bool = False
) -> ResultTable:
    """Put results beside the published tables. Raises DataError for results that do not belong."""
    gathered = collect(results)
    rows = sort_out(gathered.found, benchmarks_of(parts), lenient)
    return ResultTable(spec, tuple(parts), known_spreads(), measure(rows), tuple(left_out(gathered)))


def known_spreads() -> dict[str, BenchmarkSpread]:
    """Return each benchmark's spread according to all published numbers."""
    return spreads([read_paper(name) for name in paper_names()])


def results_folders(given: Path | None) -> list[Path]:
    """Return the given folder of results, else the committed one and ``./results``."""
    if given is not None:
        return [given]
    return [folder for folder in (suite("leaderboards") / "results", Path("results")) if folder.is_dir()]
