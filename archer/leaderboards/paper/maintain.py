"""The committed tables: write them, and verify them against the outcomes and printed numbers they are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from archer.errors import DataError, RecipeError
from archer.evaluation.benchmark import read_benchmark
from archer.leaderboards.layouts import html, latex, markdown
from archer.leaderboards.paper.collect import FoundResult, collect, sort_out
from archer.leaderboards.paper.export import table_csv
from archer.leaderboards.paper.pages import page
from archer.leaderboards.paper.specs import spec_names
from archer.leaderboards.paper.table import ResultTable, open_table
from archer.leaderboards.published import paper_names, read_paper
from archer.leaderboards.standings import read_standings, table_files, write_tables
from archer.system import in_checkout, suite, write_aside


def texts(table: ResultTable) -> dict[str, str]:
    """Return a table in every format, by file ending."""
    whole = page(table)
    return {"md": markdown(whole), "csv": table_csv(table), "tex": latex(whole), "html": html(whole)}


def checkout() -> Path:
    """Return the checkout's leaderboards. Raises DataError for an installed package, which holds no tables."""
    return in_checkout(suite("leaderboards"), "--write and --verify keep the tables of")


def committed(root: Path) -> list[Path]:
    """Return the folders of results from which the committed tables are computed."""
    return [folder for folder in (root / "results",) if folder.is_dir()]


def comparison_folders(root: Path) -> list[Path]:
    """Return the folders of the committed comparisons."""
    return sorted(path.parent for path in root.glob("*/manifest.json"))


def write_all(root: Path, out: Path) -> list[Path]:
    """Write every table of ``root`` (a leaderboards folder) into ``out`` and return the files.

    The tables of a comparison are written beside its results, so only if ``out`` is ``root`` or a copy of it. Raises
    DataError for results that do not belong.
    """
    written = []
    for name in spec_names():
        for ending, text in texts(open_table(name, committed(root))).items():
            write_aside(out / f"{name}.{ending}", text)
            written.append(out / f"{name}.{ending}")
    for folder in comparison_folders(out):
        write_tables(read_standings(folder), folder)
        written += [folder / "table.md", folder / "table.csv"]
    return written


def verify(root: Path) -> list[str]:
    """Return sentences on what was checked. Raises DataError with everything that is wrong."""
    papers = [read_paper(name) for name in paper_names()]
    gathered = collect(committed(root))
    results, compared = gathered.found, [(folder, collect([folder]).found) for folder in comparison_folders(root)]
    faults = [f"{path}: not a result of `archer`" for path in gathered.others]
    faults += [*misplaced(results), *(line for _, entries in compared for line in misplaced(entries))]
    faults = faults or [line for folder, entries in [(root, results), *compared] for line in stale(folder, entries)]
    faults = faults or list(differing(root))
    if faults:
        raise DataError("\n".join(faults))
    outcomes = sum(len(entry.result.problems) * entry.result.samples for entry in results)
    outcomes += sum(len(entry.result.problems) * entry.result.samples for _, entries in compared for entry in entries)
    cells = sum(len(row.cells) for paper in papers for table in paper.tables for _, row in table.rows())
    return [
        f"published: {len(papers)} papers, {cells} cells",
        f"results: {len(results)} files, {sum(len(entries) for _, entries in compared)} in {len(compared)} "
        f"comparisons, {outcomes:,} outcomes; counts, checksums, samplings and verifiers as they must be",
        f"tables: {', '.join([*spec_names(), *(folder.name for folder, _ in compared)])}: as made from these",
    ]


def misplaced(entries: Sequence[FoundResult]) -> Iterator[str]:
    """Yield an error for each result of an unknown benchmark."""
    for entry in entries:
        try:
            read_benchmark(entry.result.benchmark)
        except (DataError, RecipeError) as error:
            yield f"{entry.path}: {error}"


def stale(folder: Path, entries: Sequence[FoundResult]) -> Iterator[str]:
    """Yield an error for results in a folder that do not belong together or to their benchmarks."""
    try:
        sort_out(entries, [entry.result.benchmark for entry in entries])
    except DataError as error:
        yield f"{folder}: {error}"


def differing(root: Path) -> Iterator[str]:
    """Yield the committed tables that differ, byte for byte, from those their numbers make."""
    for name in spec_names():
        yield from unlike(
            root, {f"{name}.{end}": text for end, text in texts(open_table(name, committed(root))).items()}
        )
    for folder in comparison_folders(root):
        yield from unlike(folder, table_files(read_standings(folder)))


def unlike(folder: Path, made: Mapping[str, str]) -> Iterator[str]:
    """Yield the files of a folder that differ from the texts in ``made``."""
    for name, text in made.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            fault = "is not what its numbers make" if path.is_file() else "is missing"
            yield f"{path}: {fault}; run `archer table --write` and look at the change"
