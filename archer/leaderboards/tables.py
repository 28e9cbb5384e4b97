"""Standings as tables: a page for files, rich tables for a terminal. Layout only: no number is made here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from archer.evaluation.named_metrics import with_k
from archer.leaderboards.layouts import GAP, Page, PageTable, plain_table
from archer.leaderboards.legends import legend, show, show_difference
from archer.leaderboards.ranking import Comparison, Standings

SCORE, DIFFERENCE = len("0.72 [0.66, 0.78]"), len("+0.35 [+0.28, +0.42]")


def show_p(p: float) -> str:
    """Return ``p 0.03``, the smallest that resampling can tell as ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}" if p < 0.0995 else f"p {p:.2f}"


def detail_table(standings: Standings) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of what the responses were like and what training took."""
    header = ["", "tokens", "cut off", "no answer", "at a limit", "eval s", "sampled", "train s"]
    rows = []
    for row, one in standings.details.items():
        paid = standings.costs.get(row)
        shares = [f"{share:.1%}" for share in (one.truncated, one.no_answer, one.limited)]
        price = [f"{paid.responses:,.0f}", f"{paid.seconds:,.0f}"] if paid else ["-", "-"]
        rows.append([row, f"{one.length:.0f}", *shares, f"{one.seconds:.0f}", *price])
    return header, rows


DETAIL_NOTE = (
    "tokens: mean length of a response; cut off: stopped by the length limit; at a limit: ended by the judge's limits "
    "on time, memory or output. sampled: responses drawn in training, also those not trained on; eval s, train s: "
    "seconds, per seed."
)


def page(standings: Standings) -> Page:
    """Return the page of a comparison: scores, differences to each anchor, responses and cost."""
    differences = [difference_grid(standings, anchor) for anchor in standings.anchors]
    header, rows = detail_table(standings)
    cost = PageTable(tuple(header), tuple(tuple(row) for row in rows), "Responses and cost", (DETAIL_NOTE,))
    return Page("Comparison", (score_grid(standings), *differences, cost))


def score_grid(standings: Standings) -> PageTable:
    """Return the main table."""
    wanted = [(column, metric) for column in standings.columns for metric in standings.metrics(column)]
    header = ("", *(f"{column} {standings.metric_name(metric, column)}" for column, metric in wanted))
    rows, strong = [], set()
    for at, row in enumerate(standings.rows):
        cells = [(row, column, metric) for column, metric in wanted]
        rows.append((row, *(show(standings.cells[cell]) for cell in cells)))
        strong |= {(at, place) for place, cell in enumerate(cells, start=1) if cell in standings.bold}
    return PageTable(header, tuple(rows), notes=tuple(legend(standings)), strong=frozenset(strong))


def difference_grid(standings: Standings, anchor: str) -> PageTable:
    """Return the table of differences to one row."""
    rows = []
    for metric in standings.keys:
        for row, by_column in standings.against(anchor, metric).items():
            rows.append((row, with_k(metric), *(in_words(by_column.get(column)) for column in standings.columns)))
    return PageTable(("", "", *standings.columns), tuple(rows), f"Difference to {anchor}")


def in_words(one: Comparison | None) -> str:
    """Return a difference with its words and p; a dash where there is none."""
    return "-" if one is None else f"{show_difference(one.difference)} {one.words} ({show_p(one.p)})"


def render(standings: Standings) -> RenderableType:
    """Return the tables for a terminal; they are laid out for its width when printed."""
    return TerminalTable(standings)


@dataclass(frozen=True)
class TerminalTable:
    """Standings as rich prints them."""

    standings: Standings

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        standings, width = self.standings, options.max_width
        for metric in standings.keys:
            yield from score_tables(standings, metric, width)
        for line in legend(standings):
            yield Text(line, style="dim")
        yield Text()
        for metric in standings.keys:
            yield from difference_tables(standings, metric, width)
        header, rows = detail_table(standings)
        table = plain_table("Responses and cost", header)
        for row in rows:
            table.add_row(*map(Text, row))
        yield table
        yield Text(DETAIL_NOTE, style="dim")


def score_tables(standings: Standings, metric: str, width: int) -> Iterator[Table]:
    """Yield the scores of one metric, as many columns a table as fit."""
    shown = standings.columns_of(metric)
    widest = max(len(show(standings.cells[row, column, metric])) for row in standings.rows for column in shown)
    for columns in chunks(standings, shown, max(SCORE, widest), width):
        table = plain_table(f"{with_k(metric)} [95% interval]", headings(standings, metric, columns))
        for row in standings.rows:
            cells = [(row, column, metric) for column in columns]
            styles = ["bold" if cell in standings.bold else "" for cell in cells]
            texts = [Text(show(standings.cells[cell]), style) for cell, style in zip(cells, styles, strict=True)]
            table.add_row(Text(row), *texts)
        yield table


def difference_tables(standings: Standings, metric: str, width: int) -> Iterator[Table]:
    """Yield the differences of one metric to every anchor, as many columns a table as fit."""
    listed = [one for one in standings.comparisons if one.metric == metric]
    widest = max((len(show_difference(one.difference)) for one in listed), default=0)
    for columns in chunks(standings, standings.columns_of(metric), max(DIFFERENCE, widest), width):
        title = f"Differences in {with_k(metric)} [95% interval]"
        table = plain_table(title, headings(standings, metric, columns))
        for anchor in standings.anchors:
            table.add_row(Text(f"to {anchor}", "italic"))
            for row, found in standings.against(anchor, metric).items():
                table.add_row(Text(f" {row}"), *(two_lines(found.get(column)) for column in columns))
        yield table


def two_lines(one: Comparison | None) -> Text:
    """Return a difference with its words below; a dash where there is none."""
    if one is None:
        return Text("-")
    style = "dim" if not one.difference.tells_apart else ""
    return Text(f"{show_difference(one.difference)}\n{one.words}", style)


def headings(standings: Standings, metric: str, columns: Sequence[str]) -> list[str]:
    """Return the header: each column's name over its K."""
    return ["", *(f"{column}\n{standings.metric_name(metric, column)}" for column in columns)]


def chunks(standings: Standings, columns: tuple[str, ...], cell: int, width: int) -> list[tuple[str, ...]]:
    """Return the columns, dealt evenly to as few tables as fit the width."""
    label = 2 + max(len(row) for row in (*standings.rows, *(f"to {one}" for one in standings.anchors)))
    widest = GAP + max(cell, *(len(column) for column in columns))
    tables = math.ceil(len(columns) / max(1, (width - label) // widest))
    size = math.ceil(len(columns) / tables)
    return [columns[start : start + size] for start in range(0, len(columns), size)]
