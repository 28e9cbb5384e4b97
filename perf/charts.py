"""Figures of the records: ratios as intervals beside their target, learning curves overlaid, growth on log axes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import plotly.graph_objects as go
from claims import Claim, Record, base, learning_gap
from work import by_contender

from archer.leaderboards.report.curves import COLOURS, GREY, CurveChart, dress


def charts(kind: str, record: Record, found: Sequence[Claim]) -> list[CurveChart]:
    """Return the figures of a record; none for kinds that have no plot."""
    drawn = [ratios(list(found))] if found and base(kind) != "growth" else []
    return drawn + DRAWN.get(base(kind), lambda _: [])(record)


def ratios(found: Sequence[Claim]) -> CurveChart:
    """Median and range of every ratio, its target a bar across."""
    figure = go.Figure()
    names = [one.what for one in found]
    middles = [one.measured.median for one in found]
    figure.add_scatter(
        x=middles, y=names, mode="markers", name="measured, median and range of rounds",
        marker={"size": 10, "color": [COLOURS[2] if one.met else COLOURS[1] for one in found]},
        error_x={"array": [one.measured.high - one.measured.median for one in found], "symmetric": False,
                 "arrayminus": [one.measured.median - one.measured.low for one in found]},
    )  # fmt: skip
    figure.add_scatter(
        x=[one.target for one in found], y=names, mode="markers", name="target",
        marker={"symbol": "line-ns-open", "size": 18, "color": GREY, "line": {"width": 3}},
    )  # fmt: skip
    dress(figure)
    figure.update_layout(height=120 + 34 * len(found), hovermode="closest", yaxis={"autorange": "reversed"})
    figure.update_xaxes(title_text="ratio", rangemode="tozero")
    return CurveChart(
        "Ratios", "Green: met; orange: missed. Within a round, then the median and range of rounds.", figure
    )


def learning(record: Record) -> list[CurveChart]:
    """Mean reward by step: the mean over rounds bold, each round thin."""
    rounds, figure = by_contender(record["measurements"]), go.Figure()
    for colour, (name, ones) in zip(COLOURS, rounds.items(), strict=False):
        for one in ones:
            figure.add_scatter(y=one["rewards"], mode="lines", line={"color": colour, "width": 1}, opacity=0.4,
                               legendgroup=name, showlegend=False, hoverinfo="skip")  # fmt: skip
        means = [sum(values) / len(values) for values in zip(*(one["rewards"] for one in ones), strict=True)]
        figure.add_scatter(y=means, mode="lines+markers", line={"color": colour, "width": 2.5}, name=name,
                           legendgroup=name)  # fmt: skip
    dress(figure)
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="mean reward")
    return [CurveChart("Learning curves", same(rounds), figure)]


def same(rounds: dict[str, list[Any]]) -> str:
    """Say by how much mean rewards differ, paired, and whether that is more than chance."""
    said = []
    for name in rounds:
        if name != "archer" and "archer" in rounds:
            gap = learning_gap(rounds["archer"], rounds[name])
            verdict = "they differ" if gap.tells_apart else "no difference shown"
            said.append(f"archer less {name}: {gap.value:+.4f} (95 % {gap.low:+.4f}..{gap.high:+.4f}), {verdict}")
    return "Mean reward, paired by round and step: " + "; ".join(said) + "."


def growth(record: Record) -> list[CurveChart]:
    """Seconds over size, a line a quantity, both axes logarithmic."""
    drawn = []
    for name, found in record["series"].items():
        figure = go.Figure()
        for colour, line in zip(COLOURS, dict.fromkeys(row["line"] for row in found["rows"]), strict=False):
            rows = [row for row in found["rows"] if row["line"] == line]
            sizes = sorted({row["size"] for row in rows})
            taken = [[row["seconds"] for row in rows if row["size"] == size] for size in sizes]
            middles = [median(values) for values in taken]
            figure.add_scatter(
                x=sizes, y=middles, mode="lines+markers", name=line, line={"color": colour, "width": 2.5},
                error_y={"array": [max(values) - middle for values, middle in zip(taken, middles, strict=True)],
                         "arrayminus": [middle - min(values) for values, middle in zip(taken, middles, strict=True)],
                         "symmetric": False},
            )  # fmt: skip
        dress(figure)
        figure.update_layout(hovermode="closest")
        figure.update_xaxes(type="log", title_text=found["axis"])
        figure.update_yaxes(type="log", title_text="seconds")
        fits = [f"{line} ~ size^{one:.2f} ({low:.2f}..{high:.2f})" for line, (one, low, high) in
                found["exponents"].items()]  # fmt: skip
        drawn.append(CurveChart(f"Growth: {name}", "; ".join(fits) or "Two sizes: no line fitted.", figure))
    return drawn


def variants(record: Record) -> list[CurveChart]:
    """Mean reward by step of every variant and seed."""
    figure = go.Figure()
    for colour, (name, runs) in zip(COLOURS, record["runs"].items(), strict=False):
        for one in runs:
            line = {"color": colour, "width": 2}
            figure.add_scatter(y=one["reward"], mode="lines", name=f"{name}, seed {one['seed']}", line=line)
    dress(figure)
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="mean reward")
    return [CurveChart("Learning curves", "The mean reward of the samples drawn.", figure)]


DRAWN = {"trl": learning, "growth": growth, "variants": variants}
