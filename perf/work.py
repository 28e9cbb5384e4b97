"""The work that every contender of a comparison has to do, and how archer is told of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from archer.recipe.reading import read_recipe
from archer.recipe.sections import Recipe

HERE = Path(__file__).resolve().parent
# contender, round, load, steps: [{seconds, parts, tokens, length, reward}], rewards, rss_mib, told, settings
Measurement = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """The same prompts, samples and optimizer updates for all.

    ``lengths``: "natural", or "fixed": every response has ``max_tokens`` tokens, as no token ends it.
    """

    model: str = "lab"
    algorithm: str = "grpo"
    prompts: int = 32
    group: int = 16
    updates: int = 4
    max_tokens: int = 160
    lengths: str = "natural"
    lr: float = 2e-4
    steps: int = 5
    warmup: int = 1
    seed: int = 0
    threads: int = 1
    programs: bool = False
    gpu: bool = False
    limit_gib: float = 0.0  # of address space, 0: no limit
    changes: Sequence[str] = ()  # further ones of archer's recipe
    trl_micro: int = 16
    trl: dict[str, Any] = field(default_factory=dict)

    @property
    def mini_batch(self) -> int:
        """Groups of one optimizer update."""
        return self.prompts // self.updates


def told(work: Work) -> list[str]:
    """Return the work as changes of the lab's recipe, as ``--set`` takes them."""
    sources = ["lab-arithmetic", "lab-countdown", *(["lab-code"] if work.programs else [])]
    steps = work.warmup + work.steps
    rows = {"grpo": {"objective": {"kl_weight": 0.0}}, "dapo": {"group_filter": "none"}, "archer": {}}
    changes = {
        "model.path": work.model, "steps": steps, "data": [{"name": name} for name in sources],
        "algorithms": rows, "rollout.prompts": work.prompts, "rollout.samples_per_prompt": work.group,
        "rollout.max_tokens": work.max_tokens, "update.lr": work.lr, "update.warmup": 0,
        "update.mini_batch": work.mini_batch, "save.every": steps,
        "evaluate.benchmarks": [], "evaluate.during_training.every": 0,
    }  # fmt: skip
    return [*(f"{key}={json.dumps(value)}" for key, value in changes.items()), *work.changes]


def recipe(work: Work) -> Recipe:
    """Return the lab's recipe with the work's changes."""
    return read_recipe("lab", told(work))


def environment(work: Work, folder: str) -> dict[str, str]:
    """Return the environment of a measuring process; ``folder`` holds what it writes."""
    threads = str(work.threads)
    hidden = {} if work.gpu else {"CUDA_VISIBLE_DEVICES": ""}
    return os.environ | hidden | {
        "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1", "TMPDIR": folder,
    }  # fmt: skip


def attempt(contender: str, number: int, work: Work, mode: str = "steps") -> tuple[Measurement, str]:
    """Run one contender in a process of its own; return what it measured ({} where it failed) and what it said."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        task, answer = Path(folder) / "task.json", Path(folder) / "answer.json"
        task.write_text(json.dumps({"contender": contender, "mode": mode, "work": asdict(work)}))
        done = subprocess.run(
            [sys.executable, str(HERE / "contenders.py"), str(task), str(answer)],
            env=environment(work, folder), capture_output=True, text=True,
        )  # fmt: skip
        said = f"{done.stdout}\n{done.stderr}\n{contender}: exit code {done.returncode}"
        if done.returncode:
            return {}, said
        return {"contender": contender, "round": number, "load": load, **json.loads(answer.read_text())}, said


def measure(contender: str, number: int, work: Work) -> Measurement:
    """Run one contender; exit with its output when it fails."""
    found, said = attempt(contender, number, work)
    return found or sys.exit(said)


def shape(text: str) -> tuple[int, int]:
    """Read ``32x16``."""
    prompts, group = text.split("x")
    return int(prompts), int(group)


def seconds(one: Measurement) -> float:
    """Return the median seconds of a measurement's counted steps."""
    return median(step["seconds"] for step in one["steps"])


def speed(one: Measurement) -> float:
    """Return generated tokens a second over whole steps, of a median step."""
    return median(step["tokens"] / step["seconds"] for step in one["steps"])


def mean(one: Measurement, name: str) -> float:
    """Return the mean of a column over a measurement's counted steps."""
    return sum(step[name] for step in one["steps"]) / len(one["steps"])


def progress(one: Measurement) -> str:
    """Return a line for somebody who waits."""
    return f"round {one['round']}: {one['contender']:11} {seconds(one):7.2f} s a step (load {one['load']:.1f})"


def by_contender(measurements: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """Return the measurements of each contender, in their rounds' order."""
    found: dict[str, list[Measurement]] = {}
    for one in measurements:
        found.setdefault(one["contender"], []).append(one)
    return found
