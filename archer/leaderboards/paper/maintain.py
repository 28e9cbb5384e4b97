"""The committed tables: made anew, and checked against the outcomes and printed numbers that they follow from."""

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


def texts(board: ResultTable) -> dict[str, str]:
    """Return a table in every format, by the ending of its file."""
    whole = page(board)
    return {"md": markdown(whole), "csv": table_csv(board), "tex": latex(whole), "html": html(whole)}


def checkout() -> Path:
    """Return the checkout's leaderboards. Raises DataError for an installed package, which has no tables to keep."""
    return in_checkout(suite("leaderboards"), "--write and --verify keep the tables of")


def committed(root: Path) -> list[Path]:
    """Return the folders of results that committed tables are made of."""
    return [folder for folder in (root / "results",) if folder.is_dir()]


def comparison_folders(root: Path) -> list[Path]:
    """Return the committed comparisons."""
    return sorted(path.parent for path in root.glob("*/manifest.json"))


def write_all(root: Path, out: Path) -> list[Path]:
    """Write every table of ``root`` (a leaderboards folder) anew into ``out`` and return the files.

    Comparisons are written beside their outcomes, so only where ``out`` is ``root`` or holds a copy of them.
    Raises DataError for results that do not belong.
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
    """Return, in words, what was checked. Raises DataError with everything that is wrong."""
    papers = [read_paper(name) for name in paper_names()]
    kept = collect(committed(root))
    found, compared = kept.found, [(folder, collect([folder]).found) for folder in comparison_folders(root)]
    faults = [f"{path}: not a result of `archer`" for path in kept.others]
    faults += [*misplaced(found), *(line for _, ones in compared for line in misplaced(ones))]
    faults = faults or [line for folder, ones in [(root, found), *compared] for line in stale(folder, ones)]
    faults = faults or list(differing(root))
    if faults:
        raise DataError("\n".join(faults))
    outcomes = sum(len(one.result.problems) * one.result.samples for one in found)
    outcomes += sum(len(one.result.problems) * one.result.samples for _, ones in compared for one in ones)
    cells = sum(len(row.cells) for paper in papers for table in paper.tables for _, row in table.rows())
    return [
        f"published: {len(papers)} papers, {cells} cells",
        f"results: {len(found)} files, {sum(len(ones) for _, ones in compared)} in {len(compared)} comparisons, "
        f"{outcomes:,} outcomes; counts, checksums, samplings and verifiers as they must be",
        f"tables: {', '.join([*spec_names(), *(folder.name for folder, _ in compared)])}: as made from these",
    ]


def misplaced(found: Sequence[FoundResult]) -> Iterator[str]:
    """Yield results of benchmarks that there are not."""
    for one in found:
        try:
            read_benchmark(one.result.benchmark)
        except (DataError, RecipeError) as error:
            yield f"{one.path}: {error}"


def stale(folder: Path, found: Sequence[FoundResult]) -> Iterator[str]:
    """Yield what does not belong among these results, whatever table shows them."""
    try:
        sort_out(found, [one.result.benchmark for one in found])
    except DataError as error:
        yield f"{folder}: {error}"


def differing(root: Path) -> Iterator[str]:
    """Yield the committed tables that are not what their numbers make, byte for byte."""
    for name in spec_names():
        yield from unlike(
            root, {f"{name}.{end}": text for end, text in texts(open_table(name, committed(root))).items()}
        )
    for folder in comparison_folders(root):
        yield from unlike(folder, table_files(read_standings(folder)))


def unlike(folder: Path, made: Mapping[str, str]) -> Iterator[str]:
    """Yield the files of a folder that differ from what was made."""
    for name, text in made.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            told = "is not what its numbers make" if path.is_file() else "is missing"
            yield f"{path}: {told}; run `archer table --write` and look at the change"
