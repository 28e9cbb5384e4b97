"""Learning curves from the runs' records: one figure per quantity, a colour per algorithm, a thin line per seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import plotly.graph_objects as go

from archer.leaderboards.ranking import BASE, Standings
from archer.runs.folder import read_lines
from archer.types import Json

# The colours of Okabe and Ito (2008), distinct with any colour vision; further algorithms have dashed lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "dash", "dot")
GREY = "#8a8f98"
PARTS = (  # timed parts of a step; some occur only with several ranks, other engines or prefetch
    "generate", "reward", "gather", "score", "reference", "update", "wait", "sync", "evaluate", "write",
)  # fmt: skip
HEIGHT = 300
LEAST_SECONDS = 0.001  # shorter parts of a step are not drawn

Line = Mapping[str, Json]
Runs = Mapping[str, Mapping[int, Sequence[Line]]]  # journal lines by algorithm and seed


@dataclass(frozen=True)
class CurveChart:
    """A figure with the note below it; ``figure`` is None if no run recorded the quantity."""

    title: str
    note: str
    figure: go.Figure | None


@dataclass(frozen=True)
class CurveQuantity:
    """A key of metrics.jsonl and how to present it."""

    key: str
    title: str
    note: str
    absent: str = "not recorded"
    share: bool = False


CLIPPED = "Share of tokens whose ratio was clipped."
UNREFERENCED = "none held to a reference"
FIXED = (
    CurveQuantity("rollout_entropy", "Entropy", "Nats per token, of all responses sampled."),
    CurveQuantity("clip_reasoning", "Clip fraction, reasoning tokens", CLIPPED, share=True),
    CurveQuantity("clip_knowledge", "Clip fraction, knowledge tokens", CLIPPED, share=True),
    CurveQuantity("kl_reasoning", "KL to the reference, reasoning tokens", "Nats per token.", UNREFERENCED),
    CurveQuantity("kl_knowledge", "KL to the reference, knowledge tokens", "Nats per token.", UNREFERENCED),
    CurveQuantity("length", "Response length", "Mean tokens of a sampled response."),
    CurveQuantity("signal", "Groups with signal", "Share of groups whose rewards differ.", share=True),
)  # fmt: skip


def read_runs(out: Path, standings: Standings, name: str) -> Runs:
    """Return the lines of the file ``name`` of every training run; none for a run without that file."""
    trained = [row for row in standings.rows if row != BASE]
    return {row: {seed: read_lines(out / row / f"seed-{seed}" / name) for seed in standings.seeds} for row in trained}


def charts(metrics: Runs, timings: Runs, base: Mapping[str, float]) -> list[CurveChart]:
    """Return every chart; ``base`` has the base model's held-out score by benchmark, drawn at step 0."""
    keys = {key for by_seed in metrics.values() for lines in by_seed.values() for line in lines for key in line}
    rewards = [CurveQuantity("reward", "Reward", "Mean training reward of a step's responses, before any filter.")]
    rewards += [
        CurveQuantity(key, f"Reward, {key.partition('/')[2]}", "Mean training reward of this family's responses.")
        for key in sorted(keys)
        if key.startswith("reward/")
    ]
    listed = [f"{name}/avg" for name in base]
    tested = [*listed, *sorted(key for key in keys if key.endswith("/avg") and key not in listed)]
    held_out = [
        CurveQuantity(
            key,
            f"Held-out avg@K, {key.removesuffix('/avg')}",
            "On a part of the held-out problems, never trained on.",
        )
        for key in tested
    ]
    curves = [
        curve(quantity, metrics, base.get(quantity.key.removesuffix("/avg")))
        for quantity in (*rewards, *held_out, *FIXED)
    ]
    return [*curves, durations(timings)]


def curve(quantity: CurveQuantity, runs: Runs, start: float | None = None) -> CurveChart:
    """Return the chart of one quantity over training; ``start`` is the base model's value, at step 0."""
    figure = go.Figure()
    lacking = []
    for index, (algorithm, by_seed) in enumerate(runs.items()):
        lines = {seed: points(by_seed[seed], quantity.key, start) for seed in by_seed}
        lines = {seed: line for seed, line in lines.items() if set(line) - {0}}
        if not lines:
            lacking.append(algorithm)
            continue
        add_lines(figure, algorithm, lines, style(index))
    note = quantity.note
    if len(lacking) == len(runs):
        return CurveChart(quantity.title, f"{note} No run recorded it.", None)
    if lacking:
        note += f" No line for {', '.join(lacking)}: {quantity.absent}."
    if start is not None:
        note += f" Step 0 is the base model: {start:.2f}."
    dress(figure)
    if quantity.share:
        figure.update_yaxes(tickformat=".2~%", rangemode="tozero")
    figure.update_xaxes(title_text="step", rangemode="tozero")
    return CurveChart(quantity.title, note, figure)


def points(lines: Sequence[Line], key: str, start: float | None) -> dict[int, float]:
    """Return the values by number of steps done; the records count steps from 0."""
    first = {} if start is None else {0: start}
    return first | {int(line["step"]) + 1: float(line[key]) for line in lines if line.get(key) is not None}


def style(index: int) -> dict[str, str]:
    """Return the colour and dash of an algorithm's line."""
    return {"color": COLOURS[index % len(COLOURS)], "dash": DASHES[index // len(COLOURS) % len(DASHES)]}


def add_lines(figure: go.Figure, name: str, lines: Mapping[int, Mapping[int, float]], line: Mapping[str, str]) -> None:
    """Draw an algorithm: a thin line per seed, and a bold one of their mean at the steps that all seeds have."""
    group = escape(name)
    if len(lines) > 1:
        for seed, values in lines.items():
            figure.add_scatter(
                x=list(values), y=list(values.values()), mode="lines", line={**line, "width": 1}, opacity=0.4,
                name=f"{group} seed {seed}", legendgroup=group, showlegend=False, hoverinfo="skip",
            )  # fmt: skip
    shared = sorted(set.intersection(*(set(values) for values in lines.values())))
    means = [sum(values[step] for values in lines.values()) / len(lines) for step in shared]
    few = len(shared) <= 12
    figure.add_scatter(
        x=shared, y=means, mode="lines+markers" if few else "lines", line={**line, "width": 2.5},
        marker={"size": 6}, name=group, legendgroup=group, hovertemplate="%{y:.3g}",
    )  # fmt: skip


def durations(runs: Runs) -> CurveChart:
    """Return the chart of a mean step's seconds, stacked by part."""
    title, figure, lacking = "Seconds per step", go.Figure(), []
    means: dict[str, dict[str, float]] = {}
    for algorithm, by_seed in runs.items():
        lines = [line for seed in by_seed for line in by_seed[seed]]
        if lines:
            means[algorithm] = {part: sum(line.get(part, 0.0) for line in lines) / len(lines) for part in PARTS}
        else:
            lacking.append(algorithm)
    if not means:
        return CurveChart(title, "No run recorded its timings.", None)
    names = [escape(name) for name in means]
    spent = {part: [means[name][part] for name in means] for part in PARTS}
    notable = {part: seconds for part, seconds in spent.items() if max(seconds) >= LEAST_SECONDS}
    for index, (part, seconds) in enumerate(notable.items()):
        figure.add_bar(
            y=names, x=seconds, orientation="h", name=part, marker={"color": COLOURS[index % len(COLOURS)]},
            hovertemplate="%{x:.2f} s",
        )  # fmt: skip
    dress(figure)
    figure.update_layout(barmode="stack", hovermode="closest", yaxis={"autorange": "reversed", "ticklabelstandoff": 6})
    figure.update_xaxes(title_text="seconds")
    note = "Wall-clock mean over steps and seeds; runs side by side share the machine."
    return CurveChart(title, note + (f" No timings of {', '.join(lacking)}." if lacking else ""), figure)


def dress(figure: go.Figure) -> None:
    """Style a figure for the page: transparent, so that the page's light and dark backgrounds show."""
    figure.update_layout(
        template="none", height=HEIGHT, margin={"l": 56, "r": 12, "t": 8, "b": 40},
        font={"color": GREY, "size": 12},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hovermode="x unified", showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )  # fmt: skip
    axis = {"gridcolor": "rgba(138,143,152,0.25)", "zeroline": False, "automargin": True}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
