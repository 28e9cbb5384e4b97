"""One recipe run in several ways, with the same seed: what each costs a step, and whether it learns the same.

    python perf/variants.py --steps 10 --record
    python perf/variants.py --variant native: --variant "vllm: rollout.engine=vllm" --recipe lab --record

A variant is a name, a colon, and changes of the recipe. Variants run one after the other, ``--rounds`` times in turn,
each in a fresh process. Seconds are those of the steps' own clock, the first step apart (it starts what later steps
find running); a step's part is the median over counted steps. The page overlays the reward of every step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import plotly.graph_objects as go
from common import keep

from archer.runs.folder import read_lines
from archer.types import Json

VARIANTS = (
    "native:",
    "vllm: rollout.engine=vllm",
    "native ahead: rollout.prefetch=1 rollout.correction.kind=truncate",
    "vllm ahead: rollout.engine=vllm rollout.prefetch=1 rollout.correction.kind=truncate",
)
FIGURES = ("mismatch/k1", "mismatch/k3", "mismatch/largest", "staleness", "ratio")


def main() -> None:
    """Run every variant and print, or record, what came of it."""
    options = read_options()
    runs: dict[str, list[dict[str, Json]]] = defaultdict(list)
    for number in range(options.rounds):
        for variant in options.variants or VARIANTS:
            name, _, changes = variant.partition(":")
            runs[name].append(run(options, name, changes.split(), number))
            print(json.dumps({"variant": name, "round": number, **shown(runs[name][-1])}), flush=True)
    if options.record:
        path = keep("variants", {"runs": runs})
        page(runs).write_html(path.with_suffix(".html"), include_plotlyjs="cdn")
        print(f"Record: {path}, {path.with_suffix('.html')}")


def run(options: argparse.Namespace, name: str, changes: list[str], seed: int) -> dict[str, Json]:
    """Train one variant from the start; return its steps."""
    out = options.work / f"{name.replace(' ', '-')}-{seed}-{time.time_ns()}"
    shared = [f"steps={options.steps}", "evaluate.benchmarks=[]", *options.changes]
    words = [part for change in [*shared, *changes] for part in ("--set", change)]
    command = [sys.executable, "-m", "archer", "train", options.recipe, "--algorithm", options.algorithm]
    command += ["--seed", str(seed), "--threads", str(options.threads), "--out", str(out), *words]
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    metrics, timings = read_lines(out / "metrics.jsonl"), read_lines(out / "timings.jsonl")
    parts = {
        key: [round(line.get(key, 0.0), 4) for line in timings] for line in timings for key in line if key != "step"
    }
    return {
        "changes": changes, "seed": seed, "process_seconds": round(time.perf_counter() - begin, 2), "seconds": parts,
        "reward": [line["reward"] for line in metrics], "tokens": [line["tokens"] for line in metrics],
        **{key: [line.get(key) for line in metrics] for key in FIGURES},
    }  # fmt: skip


def shown(one: dict[str, Json]) -> dict[str, Json]:
    """Return the figures of a run that are printed."""
    counted = {key: statistics.median(values[1:] or values) for key, values in one["seconds"].items()}
    third = max(1, len(one["reward"]) // 3)
    largest = [value for value in one["mismatch/largest"] if value is not None]
    return {
        "seconds_a_step": round(sum(counted.values()), 3),
        "parts": {key: round(value, 3) for key, value in counted.items() if value >= 0.001},
        "reward_first_third": round(statistics.mean(one["reward"][:third]), 3),
        "reward_last_third": round(statistics.mean(one["reward"][-third:]), 3),
        "largest_ratio": max(largest, default=None), "k3": one["mismatch/k3"][-1], "staleness": one["staleness"][-1],
    }  # fmt: skip


def page(runs: dict[str, list[dict[str, Json]]]) -> go.Figure:
    """Return the learning curves, a colour a variant, a line a seed."""
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
    figure = go.Figure(layout={"xaxis_title": "step", "yaxis_title": "mean reward of the samples drawn"})
    for colour, (name, rounds) in zip(colours, runs.items(), strict=False):
        for one in rounds:
            line = {"color": colour, "width": 2}
            figure.add_scatter(y=one["reward"], mode="lines", name=f"{name}, seed {one['seed']}", line=line)
    return figure


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", dest="variants", action="append", help="NAME: KEY=VALUE KEY=VALUE")
    parser.add_argument("--recipe", default="lab")
    parser.add_argument("--algorithm", default="archer")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1, help="the round's number is the seed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", dest="changes", action="append", default=[], help="changes for every variant")
    parser.add_argument("--work", type=Path, default=Path("runs/variants"))
    parser.add_argument("--record", action="store_true", help="write leaderboards/perf/variants-<date>.json and .html")
    return parser.parse_args()


if __name__ == "__main__":
    main()
