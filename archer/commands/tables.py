"""``archer table`` and ``archer report``."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archer.errors import UserError
from archer.terminal import say, terminal

if TYPE_CHECKING:
    from archer.leaderboards.layouts import Page
    from archer.leaderboards.ranking import Standings


class TableFormat(StrEnum):
    """How a table is printed."""

    terminal = "terminal"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"
    html = "html"


def table(
    what: Annotated[str, typer.Argument(help="A folder that `archer compare` wrote, or a table: paper-math.")] = "",
    form: Annotated[TableFormat, typer.Option("--format", help="How to print it.")] = TableFormat.terminal,
    results: Annotated[Path | None, typer.Option(help="Results to show; default: the committed and ./results.")] = None,
    any_sampling: Annotated[bool, typer.Option(help="Show results drawn otherwise too, with a mark.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Make every committed table anew.", rich_help_panel="Maintenance")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Check every committed table against its outcomes.", rich_help_panel="Maintenance"
        ),
    ] = False,
) -> None:
    """Print a table, recomputed from outcomes and printed numbers; a comparison's is also written."""
    if not what and not write and not verify:
        from archer.leaderboards.paper.specs import spec_names

        raise UserError(f"archer table: name a folder or a table ({', '.join(spec_names())}), or --verify or --write")
    if write or verify:
        keep(write=write, verify=verify)
    if what and (Path(what) / "manifest.json").is_file():
        show(Path(what), report=False, form=form)
    elif what:
        show_board(what, results, form, any_sampling)


def report(out: Annotated[Path, typer.Argument(help="A folder that `archer compare` wrote.")]) -> None:
    """Write report.html: table, differences and learning curves."""
    show(out, report=True)


def keep(*, write: bool, verify: bool) -> None:
    """Make the committed tables anew, or check them."""
    from archer.leaderboards.paper import maintain as upkeep

    root = upkeep.checkout()
    if write:
        for path in upkeep.write_all(root, root):
            say(f"{path}: written")
    if verify:
        say("\n".join(upkeep.verify(root)))


def show_board(name: str, results: Path | None, form: TableFormat, any_sampling: bool) -> None:
    """Print a table of published and measured numbers."""
    from archer.leaderboards.paper.export import table_csv
    from archer.leaderboards.paper.pages import page
    from archer.leaderboards.paper.table import open_table, results_folders

    board = open_table(name, results_folders(results), any_sampling)
    if form is TableFormat.csv:
        say(table_csv(board), nl=False)
    else:
        show_page(page(board), form)


def show_page(page: Page, form: TableFormat) -> None:
    """Print a page."""
    from archer.leaderboards import layouts

    if form is TableFormat.terminal:
        terminal().print(layouts.TerminalPage(page))
    else:
        made = {
            TableFormat.markdown: layouts.markdown,
            TableFormat.latex: layouts.latex,
            TableFormat.html: layouts.html,
        }
        say(made[form](page), nl=False)


def show_summary(out: Path, standings: Standings) -> None:
    """Write the files of a comparison, print its short table and what may be said of it."""
    from archer.leaderboards.summary import TerminalSummary

    write_files(out, standings, report=True)
    terminal().print(TerminalSummary(standings))
    say(f"\nAll tables: archer table {shlex.quote(str(out))}  Learning curves: {out / 'report.html'}")


def write_files(out: Path, standings: Standings, *, report: bool) -> None:
    """Write the tables of a comparison, and its report if asked for."""
    from archer.leaderboards.standings import write_tables

    write_tables(standings, out)
    if report:
        from archer.leaderboards.report import write_report

        write_report(out, standings)


def show(out: Path, *, report: bool, form: TableFormat = TableFormat.terminal) -> None:
    """Print the tables of a comparison and write its files."""
    from archer.leaderboards.standings import read_standings, table_files
    from archer.leaderboards.tables import page, render

    standings = read_standings(out)
    write_files(out, standings, report=report)
    if form is TableFormat.terminal:
        terminal().print(render(standings))
    elif form is TableFormat.csv:
        say(table_files(standings)["table.csv"], nl=False)
    else:
        show_page(page(standings), form)
