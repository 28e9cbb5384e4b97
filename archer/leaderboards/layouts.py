"""Pages of tables as a terminal, Markdown, LaTeX or HTML shows them. Layout only: no number is made here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

GAP = 2  # between a terminal's columns
TEMPLATES = Path(__file__).parent / "report" / "templates"
MARKDOWN = str.maketrans({"|": "\\|", "<": "&lt;", "_": "\\_", "*": "\\*"})
LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"\textless{}", ">": r"\textgreater{}",
})  # fmt: skip


@dataclass(frozen=True)
class PageTable:
    """One table: a header, rows of as many cells, notes. ``strong`` are the places (row, column) set in bold.

    A cell may have two lines, which stand side by side where lines cannot be broken.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    strong: frozenset[tuple[int, int]] = frozenset()

    def __post_init__(self) -> None:
        """Refuse rows that do not fit: a cell in another's column is a wrong number."""
        wrong = [row for row in self.rows if len(row) != len(self.header)]
        if wrong:
            raise ValueError(f"{self.title}: {wrong[0]} does not fit under {self.header}")


@dataclass(frozen=True)
class Page:
    """A title, tables, and what is said of all of them."""

    title: str
    grids: tuple[PageTable, ...]
    notes: tuple[str, ...] = ()


def markdown(page: Page) -> str:
    """Return the page for GitHub."""
    lines = [f"# {escape(page.title)}"]
    for grid in page.grids:
        lines += ["", f"## {escape(grid.title)}"] if grid.title else []
        lines += ["", *pipes(grid), *remarks(grid.notes)]
    lines += ["", "## Notes", *remarks(page.notes)] if page.notes else []
    return "\n".join(lines) + "\n"


def remarks(notes: Sequence[str]) -> list[str]:
    """Return notes below a table: one as a paragraph, several as a list."""
    return ["", *(f"- {line}" if len(notes) > 1 else line for line in notes)] if notes else []


def flat(grid: PageTable) -> Iterator[list[tuple[str, bool]]]:
    """Yield the rows, each cell on one line with whether it is bold."""
    for at, row in enumerate(grid.rows):
        yield [(one_line(cell), (at, place) in grid.strong) for place, cell in enumerate(row)]


def one_line(text: str) -> str:
    """Return text without line breaks."""
    return " ".join(text.splitlines())


def pipes(grid: PageTable) -> list[str]:
    """Return a GitHub table."""
    rows = [[f"**{escape(text)}**" if bold else escape(text) for text, bold in cells] for cells in flat(grid)]
    lines = [[escape(one_line(cell)) for cell in grid.header], ["---"] * len(grid.header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def escape(text: str) -> str:
    """Return text that Markdown shows as it is and that stays in its cell."""
    return text.translate(MARKDOWN)


def latex(page: Page) -> str:
    """Return one booktabs table a grid, for a document that uses the package booktabs."""
    parts = [f"% {one_line(page.title)}", *(f"% {one_line(note)}" for note in page.notes)]
    return "\n\n".join(["\n".join(parts), *(booktabs(page.title, grid) for grid in page.grids)]) + "\n"


def booktabs(title: str, grid: PageTable) -> str:
    """Return one table; its notes are part of the caption."""
    cells = [[text for text, _ in row] for row in flat(grid)]
    frame = pd.DataFrame(cells, columns=[one_line(name) or " " * place for place, name in enumerate(grid.header)])
    bold = pd.DataFrame(
        [["textbf:--rwrap;" if one else "" for _, one in row] for row in flat(grid)],
        index=frame.index,
        columns=frame.columns,
    )
    style = frame.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    caption = ". ".join(part.rstrip(".") for part in (grid.title or title, *grid.notes)) + "."
    return str(
        style.apply(lambda _: bold, axis=None).to_latex(
            hrules=True, position="htbp", position_float="centering", caption=caption.translate(LATEX),
            column_format="l" + "r" * (len(grid.header) - 1),
        )
    ).strip()  # fmt: skip


def html(page: Page) -> str:
    """Return the page, complete in one file. Every text goes through the template's escaping."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("table.html.j2").render(page=page) + "\n"


@dataclass(frozen=True)
class TerminalPage:
    """A page as rich prints it: as many columns a table as fit the width."""

    page: Page

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.page.title, "bold underline")
        for grid in self.page.grids:
            yield Text()
            if grid.title:
                yield Text(grid.title, "bold")
            yield from pieces(grid, options.max_width)
            for note in grid.notes:
                yield Text(f"- {note}", style="dim")
        if self.page.notes:
            yield Text("\nNotes", "bold")
        for note in self.page.notes:
            yield Text(f"- {note}", style="dim")


def pieces(grid: PageTable, width: int) -> Iterator[Table]:
    """Yield a grid as one table, or as several that repeat the first column and deal the others evenly."""
    columns = list(zip(grid.header, *grid.rows, strict=True))
    first, *wide = [GAP + max(len(line) for cell in cells for line in [*cell.splitlines(), ""]) for cells in columns]
    tables = next((one for one in range(1, len(wide)) if fits(first, wide, one, width)), max(len(wide), 1))
    size = max(math.ceil(len(wide) / tables), 1)
    for start in range(1, max(len(columns), 2), size):
        chosen = [0, *range(start, min(start + size, len(columns)))]
        table = plain_table("", [grid.header[place] for place in chosen])
        for at, row in enumerate(grid.rows):
            table.add_row(*(Text(row[place], "bold" if (at, place) in grid.strong else "") for place in chosen))
        yield table


def fits(first: int, wide: Sequence[int], tables: int, width: int) -> bool:
    """Say whether the columns fit when dealt to that many tables."""
    size = math.ceil(len(wide) / tables)
    return all(first + sum(wide[start : start + size]) <= width for start in range(0, len(wide), size))


def plain_table(title: str, header: Sequence[str]) -> Table:
    """Return an empty table; headings are text, so that a name with brackets is no markup."""
    table = Table(
        title=Text(title, "bold") if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for place, name in enumerate(header):
        table.add_column(Text(name), overflow="fold", justify="left" if place == 0 else "right")
    return table
