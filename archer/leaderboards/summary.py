"""The end of a comparison in a few lines: one table of avg@K, and what may be said of it, made from the numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from archer.evaluation.statistics import Interval
from archer.leaderboards.layouts import PageTable, pieces
from archer.leaderboards.legends import show
from archer.leaderboards.ranking import ANCHORS, BASE, LEVEL, MEAN, Comparison, Standings
from archer.leaderboards.tables import show_p

METRIC = "avg"
MOST = 6  # differences or pairs named in one sentence


def sentences(standings: Standings) -> list[str]:
    """Return what the avg@K of a comparison say: the gain over base, the pairs told apart, and those that are not.

    Told apart means that the difference's interval excludes zero and Holm's p is at most 0.05.
    """
    if len(standings.rows) == 1:
        return [f"{standings.rows[0]} is the only row: there is nothing to compare it with."]
    found = each_pair_once(standings)
    said = [*gains(standings), *told_apart(standings, found), *not_told_apart(standings, found), *untested(standings)]
    if len(standings.seeds) == 1:
        said.append("One training seed: another may differ by more than the intervals and p-values say.")
    return said


def told(one: Comparison) -> bool:
    """Say whether a difference can be told, all comparisons of its column counted."""
    return one.difference.tells_apart and one.p <= LEVEL


def pair(one: Comparison) -> frozenset[str]:
    """Return the two rows that are compared."""
    return frozenset((one.row, one.against))


def each_pair_once(standings: Standings) -> list[Comparison]:
    """Return the comparisons of the metric, a pair's once a column, the row with more first."""
    found: dict[tuple[frozenset[str], str], Comparison] = {}
    for one in standings.comparisons:
        if one.metric == METRIC:
            found.setdefault((pair(one), one.column), more_first(one))
    return list(found.values())


def more_first(one: Comparison) -> Comparison:
    """Return the comparison the way round in which the difference is not negative."""
    if one.difference.value >= 0:
        return one
    return replace(one, row=one.against, against=one.row, difference=one.difference.mirrored())


def gains(standings: Standings) -> Iterator[str]:
    """Yield how the algorithms stand to base in the last column: the mean, or the only benchmark."""
    column = standings.columns[-1]
    if BASE not in standings.rows:
        yield "base is not among the rows, so the gain over it is unknown."
        return
    rows = [by_column[column] for by_column in standings.against(BASE, METRIC).values()]
    rows.sort(key=lambda one: -one.difference.value)
    for words, chosen in (
        ("Better than base", [one for one in rows if told(one) and one.difference.value > 0]),
        ("Worse than base", [one for one in rows if told(one) and one.difference.value < 0]),
        ("Cannot be told from base", [one for one in rows if not told(one)]),
    ):
        if chosen:
            yield f"{words} on {place(column)}: {with_p(chosen)}."


def with_p(chosen: Sequence[Comparison]) -> str:
    """Return the rows with their differences and p-values; one that they share is said once."""
    named = [f"{one.row} {one.difference.value:+.2f}" for one in chosen]
    ps = [holm_p(one) for one in chosen]
    if len(ps) > 1 and len(set(ps)) == 1:
        return f"{listed(named)} ({ps[0]} each)"
    return listed([f"{name} ({p})" for name, p in zip(named, ps, strict=True)])


def told_apart(standings: Standings, found: Sequence[Comparison]) -> Iterator[str]:
    """Yield the differences that can be told, the surest first.

    Of those to base it yields benchmarks that contradict, or say more than, what :func:`gains` says of the mean.
    """
    better = {pair(one): one.row for one in found if told(one) and one.column == standings.columns[-1]}
    chosen = [one for one in found if told(one) and not (BASE in pair(one) and better.get(pair(one)) == one.row)]
    chosen.sort(key=lambda one: (one.p, -one.difference.value))
    if chosen:
        named = [f"{one.row} is better than {one.against} {values(standings, one)}" for one in chosen]
        yield f"Told apart: {first_of(named, '; ')}."


def not_told_apart(standings: Standings, found: Sequence[Comparison]) -> Iterator[str]:
    """Yield the pairs of algorithms without a difference that can be told, and the nearest to one."""
    between = [one for one in found if BASE not in pair(one)]
    apart = {pair(one) for one in between if told(one)}
    alike = [one for one in between if pair(one) not in apart]
    pairs = dict.fromkeys(" and ".join(sorted(pair(one), key=standings.rows.index)) for one in alike)
    if not pairs:
        return
    where = "on any benchmark or the mean" if len(standings.columns) > 1 else f"on {place(standings.columns[0])}"
    near = min((one for one in alike if one.difference.tells_apart), key=lambda one: one.p, default=None)
    lead = f"; the nearest: {near.row} ahead of {near.against} {values(standings, near)}" if near else ""
    yield f"Cannot be told apart {where}: {first_of(list(pairs), ', ')}{lead}."


def untested(standings: Standings) -> Iterator[str]:
    """Yield the algorithms of which no two were compared with each other."""
    others = [row for row in standings.rows if row not in standings.anchors]
    if len(others) > 1:
        anchors = listed(standings.anchors or ANCHORS)
        yield f"Not tested against each other: {listed(others)}; tests are against {anchors}."


def values(standings: Standings, one: Comparison) -> str:
    """Return ``on lab-code, 0.70 against 0.65 (Holm's p 0.031)``; with a third digit where two are the same."""
    left, right = (standings.cells[row, one.column, METRIC].value for row in (one.row, one.against))
    digits = 2 if f"{left:.2f}" != f"{right:.2f}" else 3
    return f"on {place(one.column)}, {left:.{digits}f} against {right:.{digits}f} ({holm_p(one)})"


def holm_p(one: Comparison) -> str:
    """Return ``Holm's p 0.031``."""
    return "its spread is unknown" if math.isnan(one.difference.low) else f"Holm's {show_p(one.p)}"


def place(column: str) -> str:
    """Return a column's name in a sentence."""
    return "the mean" if column == MEAN else column


def listed(texts: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


def first_of(texts: Sequence[str], separator: str) -> str:
    """Return the texts joined; of many, the first and how many more there are."""
    more = f"{separator}and {len(texts) - MOST} more" if len(texts) > MOST else ""
    return separator.join(texts[:MOST]) + more


@dataclass(frozen=True)
class TerminalSummary:
    """A comparison's short table and its sentences, as rich prints them."""

    standings: Standings

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        seeds = len(self.standings.seeds)
        over = f"mean over {seeds} training seeds" if seeds > 1 else "one training seed"
        yield Text(f"{metric_name(self.standings)} [95% interval], {over}", "bold")
        yield from short_tables(self.standings, options.max_width)
        for sentence in sentences(self.standings):
            yield Text(sentence)


def metric_name(standings: Standings) -> str:
    """Return ``avg@16``, or ``avg@K`` where benchmarks differ in K."""
    return standings.metric_name(METRIC, standings.columns[-1])


def short_tables(standings: Standings, width: int) -> list[Table]:
    """Return the scores as the first layout that fits in one table; of the narrowest, as many tables as it takes."""
    made: list[Table] = []
    for layout in LAYOUTS:
        made = list(pieces(scores(standings, layout), width))
        if len(made) == 1:
            break
    return made


Layout = Callable[[str, Interval], str]  # of a column and its score


def scores(standings: Standings, layout: Layout) -> PageTable:
    """Return rows x columns of avg@K."""
    cells = [(row, column, METRIC) for row in standings.rows for column in standings.columns]
    size = len(standings.columns)
    texts = [layout(column, standings.cells[row, column, metric]) for row, column, metric in cells]
    rows = tuple((row, *texts[at * size : (at + 1) * size]) for at, row in enumerate(standings.rows))
    strong = {(at // size, at % size + 1) for at, cell in enumerate(cells) if cell in standings.bold}
    return PageTable(("", *headings(standings)), rows, strong=frozenset(strong))


def headings(standings: Standings) -> list[str]:
    """Return the columns' names, over their K where benchmarks differ in it."""
    if standings.samples(standings.columns[-1]) is not None:
        return list(standings.columns)
    return [f"{column}\n{standings.metric_name(METRIC, column)}" for column in standings.columns]


def compact(interval: Interval) -> str:
    """Return ``.72 [.66, .78]``."""
    return re.sub(r"(?<!\d)0\.", ".", show(interval))


LAYOUTS: tuple[Layout, ...] = (
    lambda column, one: show(one),
    lambda column, one: compact(one),
    lambda column, one: compact(one).replace(" [", "\n["),
    lambda column, one: compact(one) if column == MEAN else compact(one).split(" ")[0],
)
