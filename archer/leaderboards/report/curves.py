"""Learning curves from the journals: one figure a quantity, a colour an algorithm, a thin line a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import plotly.graph_objects as go

from archer.leaderboards.ranking import BASE, Standings
from archer.runs.folder import read_lines
from archer.types import Json

# Okabe and Ito's colours (2008), told apart with any colour vision; beyond them lines are dashed.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "dash", "dot")
GREY = "#8a8f98"
PARTS = (  # of a step, as timed; several ranks, other engines and rollouts ahead have more of them
    "generate", "reward", "gather", "score", "reference", "update", "wait", "sync", "evaluate", "write",
)  # fmt: skip
HEIGHT = 300
LEAST_SECONDS = 0.001  # of a step's part that is drawn

Line = Mapping[str, Json]
Runs = Mapping[str, Mapping[int, Sequence[Line]]]  # journal lines by algorithm and seed


@dataclass(frozen=True)
class CurveChart:
    """A figure with what is said under it; ``figure`` is None where no run recorded the quantity."""

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
    CurveQuantity("signal", "Groups with signal", "Share of groups with right and wrong samples.", share=True),
)  # fmt: skip


def read_runs(out: Path, standings: Standings, name: str) -> Runs:
    """Return the lines of every trained run's ``name``; a run without any has none."""
    trained = [row for row in standings.rows if row != BASE]
    return {row: {seed: read_lines(out / row / f"seed-{seed}" / name) for seed in standings.seeds} for row in trained}


def charts(metrics: Runs, timings: Runs, base: Mapping[str, float]) -> list[CurveChart]:
    """Return every chart; ``base`` holds the base model's held-out score by benchmark, for step 0."""
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
    found = [curve(one, metrics, base.get(one.key.removesuffix("/avg"))) for one in (*rewards, *held_out, *FIXED)]
    return [*found, durations(timings)]


def curve(quantity: CurveQuantity, runs: Runs, start: float | None = None) -> CurveChart:
    """Return one quantity along training; ``start`` is the base model's value, at step 0."""
    figure = go.Figure()
    lacking = []
    for place, (algorithm, by_seed) in enumerate(runs.items()):
        lines = {seed: points(by_seed[seed], quantity.key, start) for seed in by_seed}
        lines = {seed: line for seed, line in lines.items() if set(line) - {0}}
        if not lines:
            lacking.append(algorithm)
            continue
        add_lines(figure, algorithm, lines, style(place))
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
    """Return values by the number of steps done; the journal counts steps from 0."""
    found = {} if start is None else {0: start}
    return found | {int(line["step"]) + 1: float(line[key]) for line in lines if line.get(key) is not None}


def style(place: int) -> dict[str, str]:
    """Return the line of an algorithm."""
    return {"color": COLOURS[place % len(COLOURS)], "dash": DASHES[place // len(COLOURS) % len(DASHES)]}


def add_lines(figure: go.Figure, name: str, lines: Mapping[int, Mapping[int, float]], line: Mapping[str, str]) -> None:
    """Draw an algorithm: each seed thin, their mean, over the steps all seeds have, bold."""
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
    """Return the seconds of a mean step, stacked by part."""
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
    for place, (part, seconds) in enumerate(notable.items()):
        figure.add_bar(
            y=names, x=seconds, orientation="h", name=part, marker={"color": COLOURS[place % len(COLOURS)]},
            hovertemplate="%{x:.2f} s",
        )  # fmt: skip
    dress(figure)
    figure.update_layout(barmode="stack", hovermode="closest", yaxis={"autorange": "reversed", "ticklabelstandoff": 6})
    figure.update_xaxes(title_text="seconds")
    note = "Wall-clock mean over steps and seeds; runs side by side share the machine."
    return CurveChart(title, note + (f" No timings of {', '.join(lacking)}." if lacking else ""), figure)


def dress(figure: go.Figure) -> None:
    """Give a figure the page's looks: no background of its own, so that the page's light and dark hold."""
    figure.update_layout(
        template="none", height=HEIGHT, margin={"l": 56, "r": 12, "t": 8, "b": 40},
        font={"color": GREY, "size": 12},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hovermode="x unified", showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )  # fmt: skip
    axis = {"gridcolor": "rgba(138,143,152,0.25)", "zeroline": False, "automargin": True}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
