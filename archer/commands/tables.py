"""``archer table`` and ``archer report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def table(out: Annotated[Path, typer.Argument(help="A folder that `archer compare` wrote.")]) -> None:
    """Print and write the table of a comparison, recomputed from the outcomes."""
    show(out, report=False)


def report(out: Annotated[Path, typer.Argument(help="A folder that `archer compare` wrote.")]) -> None:
    """Write report.html: table, differences and learning curves."""
    show(out, report=True)


def show(out: Path, *, report: bool) -> None:
    """Print the table of a comparison and write its files."""
    from rich.console import Console

    from archer.standings import read_standings, write_tables
    from archer.tables import render

    standings = read_standings(out)
    write_tables(standings, out)
    if report:
        from archer.report import write_report

        write_report(out, standings)
    Console().print(render(standings))
