"""How archer's cost grows with the work: tokens a step, model size, group size, workers and ranks.

    python perf/growth.py --record
    python perf/growth.py --series group --rounds 5       # prompts of 384 tokens, once a group or once a response

Rounds go through all sizes in turn; the exponent is that of seconds ~ size^exponent, a line fitted to the logarithms.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
import torch
from common import keep, spread, table
from contenders import made_up
from models import config, make
from scipy.stats import linregress, t
from transformers import AutoModelForCausalLM
from work import Work, measure, recipe, seconds

from archer.distributed import Ranks
from archer.problems.lab import TASKS
from archer.recipe.algorithm import build_algorithm
from archer.rewards.grading import Grader
from archer.runs.folder import read_lines
from archer.sandbox import Sandbox, open_executor
from archer.trainer import open_trainer
from archer.types import Rollout

SIZES = ("0.6M", "2M", "7M", "13M", "29M")
PROMPTS = (8, 16, 32, 64, 128)
GROUPS = (4, 8, 16, 32, 64)
PROMPT, TOKENS = 384, 2048  # of the series "group": a prompt's tokens, and those of a group's responses together
PROGRAMS = 400
Point = tuple[str, float, Callable[[], float]]  # a line's name, the size, and what measures the seconds


def main() -> None:
    """Measure every series in turn; print medians and exponents, keep the record if asked to."""
    options = read_options()
    torch.set_num_threads(options.threads)
    record: dict[str, Any] = {"threads": options.threads, "rounds": options.rounds, "series": {}}
    for name in options.series:
        with tempfile.TemporaryDirectory() as folder:
            points = list(SERIES[name](options, Path(folder)))
            rows = []
            for number in range(options.rounds):
                for line, size, measuring in points:
                    rows.append({"line": line, "size": size, "round": number, "seconds": measuring()})
                    print(name, json.dumps(rows[-1]), file=sys.stderr, flush=True)
        found = {"axis": AXES[name], "rows": rows, "exponents": exponents(rows)}
        record["series"] |= {name: found} if rows else {}
        print(f"\n{name}\n\n{page(found)}", flush=True)
    if options.record:
        print(f"\nRecord: {keep('growth', record)}")


def tokens(options: argparse.Namespace, folder: Path) -> Iterator[Point]:
    """A whole step of the lab's model over prompts a step; mini-batches stay as large, so updates grow in number."""
    for prompts in PROMPTS[: options.points]:
        work = Work(prompts=prompts, updates=prompts // 8, steps=3, threads=options.threads)
        yield "step", float(prompts), partial(stepping, work)


def size(options: argparse.Namespace, folder: Path) -> Iterator[Point]:
    """A whole step, 8 x 8 responses of 64 tokens, over the model's parameters."""
    for name in SIZES[: options.points]:
        parameters = make(name, folder / name)
        work = Work(model=str(folder / name), prompts=8, group=8, updates=1, max_tokens=64, lengths="fixed", steps=3,
                    threads=options.threads)  # fmt: skip
        yield "step", float(parameters), partial(stepping, work)


def stepping(work: Work) -> float:
    """Return the median seconds of a fresh process's steps."""
    return seconds(measure("archer", 0, work))


def group(options: argparse.Namespace, folder: Path) -> Iterator[Point]:
    """An update and a scoring pass over the group's size, at equal response tokens and as many (long) prompts."""
    torch.manual_seed(0)
    for sharing in (True, False):
        model = AutoModelForCausalLM.from_config(config(options.model), dtype=torch.float32)
        work = Work(prompts=4, updates=1, group=4, max_tokens=TOKENS)
        made = recipe(work)
        policy: Any = open_trainer(made.update, made.rollout, model, made.optimizer_steps, Ranks())
        policy.backend.sharing = sharing and policy.backend.sharing
        name = "prompt once a group" if sharing else "prompt once a response"
        for many in GROUPS[: options.points]:
            one = replace(work, group=many, max_tokens=TOKENS // many)
            groups = [made_up(one, at, PROMPT, 300) for at in range(one.prompts)]
            algorithm = build_algorithm(recipe(one), "grpo")
            yield f"update, {name}", float(many), partial(clocked, policy.update, groups, algorithm)
            yield f"score, {name}", float(many), partial(clocked, policy.score, groups)


def clocked(act: Callable[..., object], *arguments: object) -> float:
    """Return the seconds of the faster of two calls."""
    taken = []
    for _ in range(2):
        begin = time.perf_counter()
        act(*arguments)
        taken.append(time.perf_counter() - begin)
    return min(taken)


def workers(options: argparse.Namespace, folder: Path) -> Iterator[Point]:
    """Grading programs in the sandbox over its workers."""
    task = TASKS["lab-code"]
    for many in range(1, (os.cpu_count() or 1) + 1):
        yield "grading", float(many), partial(grading, task, many)


def grading(task: Any, many: int) -> float:
    """Return the seconds of grading programs that all differ, the sandbox's start left out."""
    problems = [task.problem("train", index) for index in range(PROGRAMS + 10)]
    texts = [f"{task.text(one, Random(at))}\n# {at} {many}" for at, one in enumerate(problems)]
    rollouts = [Rollout.of_text(one, text) for one, text in zip(problems, texts, strict=True)]
    with Grader(1, 5, open_executor(Sandbox("bubblewrap", many))) as grader:
        grader(rollouts[PROGRAMS:])
        begin = time.perf_counter()
        grader(rollouts[:PROGRAMS])
        return time.perf_counter() - begin


def ranks(options: argparse.Namespace, folder: Path) -> Iterator[Point]:
    """A whole step over the ranks that share it, with DeepSpeed, where that is installed."""
    if importlib.util.find_spec("deepspeed"):
        for many in range(1, (os.cpu_count() or 1) + 1):
            yield "step", float(many), partial(ranked, many, folder)


def ranked(many: int, folder: Path) -> float:
    """Return the median seconds of a run's steps but the first, a thread a rank."""
    out = folder / f"{many}-{time.time_ns()}"
    changes = ["steps=4", "evaluate.benchmarks=[]", "save.every=4", "update.deepspeed={stage: 2, seconds: 120}"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(many), "-m", "archer", "train",
               "lab", "--algorithm", "grpo", "--threads", "1", "--out", str(out)]  # fmt: skip
    command += [word for change in changes for word in ("--set", change)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        sys.exit(f"{done.stderr[-3000:]}\n{many} ranks: exit code {done.returncode}")
    lines = read_lines(out / "timings.jsonl")
    return median(sum(value for key, value in line.items() if key not in ("step", "write")) for line in lines[1:])


SERIES = {"tokens": tokens, "size": size, "group": group, "workers": workers, "ranks": ranks}
AXES = {"tokens": "prompts a step, 16 responses each", "size": "parameters", "group": "responses of a group",
        "workers": "workers of the sandbox", "ranks": "ranks, a thread each"}  # fmt: skip


def exponents(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Return each line's exponent with its 95 % interval (of the fit's residuals), where it has three points."""
    found = {}
    for line in dict.fromkeys(row["line"] for row in rows):
        sizes, taken = np.log([(row["size"], row["seconds"]) for row in rows if row["line"] == line]).T
        if len(sizes) > 2 and len(set(sizes)) > 1:
            fit = linregress(sizes, taken)
            half = float(t.ppf(0.975, len(sizes) - 2)) * fit.stderr
            found[line] = [float(fit.slope), float(fit.slope - half), float(fit.slope + half)]
    return found


def page(found: dict[str, Any]) -> str:
    """Return the medians by line and size, and the exponents."""
    taken: dict[tuple[str, float], list[float]] = {}
    for row in found["rows"]:
        taken.setdefault((row["line"], row["size"]), []).append(row["seconds"])
    rows = [[line, f"{size:g}", spread(values)] for (line, size), values in taken.items()]
    fits = [f"- {line}: exponent {one:.2f} (95 % {low:.2f}..{high:.2f})" for line, (one, low, high) in
            found["exponents"].items()]  # fmt: skip
    return table(["", found["axis"], "seconds"], rows) + "\n\n" + "\n".join(fits)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", nargs="+", choices=SERIES, default=list(SERIES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=5, help="sizes of each series, at most")
    parser.add_argument("--model", default="2M", help="of the series `group`")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--record", action="store_true", help="write leaderboards/perf/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
