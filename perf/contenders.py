"""One measurement, in a process of its own: archer's loop, or TRL's GRPOTrainer on the same work.

Also ``longest``: one update on made-up responses, to see whether it fits.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from trl_contender import NEVER, run_trl, update_trl
from work import Work, recipe, told

import archer.train
from archer.distributed import Ranks
from archer.models.loading import load_model
from archer.recipe.algorithm import build_algorithm
from archer.runs.folder import RunWriter, read_lines
from archer.spec import resolve
from archer.train import RunOptions, manifest_of, run_steps
from archer.trainer import open_trainer
from archer.trainer.batch import Group, TrainSample

Steps = list[dict[str, Any]]


def main() -> None:
    """Read the task, measure, write the answer."""
    task, answer = map(Path, sys.argv[1:])
    asked = json.loads(task.read_text())
    work, ours, tuned = Work(**asked["work"]), asked["contender"] == "archer", asked["contender"] == "trl-tuned"
    torch.set_num_threads(work.threads)
    if work.limit_gib:
        resource.setrlimit(resource.RLIMIT_AS, (int(work.limit_gib * 2**30),) * 2)
    if asked["mode"] == "longest":
        found = update_archer(work) if ours else update_trl(work, tuned)
    else:
        said, steps, everything = run_archer(work) if ours else run_trl(work, tuned)
        found = {"steps": steps[work.warmup :], "rewards": [step["reward"] for step in steps], "told": said,
                 "settings": everything}  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    where = {"rss_mib": peak, "gpu_mib": gpu, "threads": torch.get_num_threads()}
    answer.write_text(json.dumps({**found, **where}, default=str))


def run_archer(work: Work) -> tuple[Any, Steps, Any]:
    """Run ``archer train`` as it is; a step ends when its rollouts and metrics are written."""
    moments: list[float] = []

    class Timed(RunWriter):
        def write(self, *columns: Any) -> None:
            super().write(*columns)
            moments.append(time.perf_counter())

    archer.train.RunWriter = Timed  # type: ignore[misc]
    if work.lengths == "fixed":
        endless()
    with tempfile.TemporaryDirectory() as folder:
        spec = resolve(recipe(work), work.algorithm, work.seed)
        run_steps(spec, Path(folder), RunOptions(work.threads))
        metrics, timings = (read_lines(Path(folder) / f"{name}.jsonl") for name in ("metrics", "timings"))
        manifest = manifest_of(spec)
    steps = []
    for index, (metric, timing) in enumerate(zip(metrics, timings, strict=True)):
        total = moments[index] - moments[index - 1] if index else float("nan")
        parts = {"generate": timing["generate"], "reward": timing["reward"],
                 "score": timing.get("reference", 0.0), "update": timing["update"]}  # fmt: skip
        parts["rest"] = total - sum(parts.values())
        yields = {name: metric[name] for name in ("tokens", "length", "reward")}
        if work.lengths == "fixed" and metric["length"] != work.max_tokens:
            raise RuntimeError(f"responses of {metric['length']} tokens on average, not {work.max_tokens}")
        steps.append({"seconds": total, "parts": parts, **yields})
    return told(work), steps, manifest["recipe"]


def endless() -> None:
    """Let no token end a response: the engine waits for one that never comes."""
    opened = archer.train.open_engine

    def open_endless(*arguments: Any) -> Any:
        engine: Any = opened(*arguments)
        engine.stops = (NEVER,)
        return engine

    archer.train.open_engine = open_endless  # type: ignore[assignment]


def update_archer(work: Work) -> dict[str, Any]:
    """Train on made-up responses of ``max_tokens`` tokens; return the seconds of each update.

    The second update has the optimizer's state beside it, so it needs the most memory.
    """
    made = recipe(work)
    algorithm = build_algorithm(made, work.algorithm)
    model = load_model(made.model)[0]
    policy = open_trainer(made.update, made.rollout, model, made.optimizer_steps, Ranks())
    if algorithm.needs_reference:
        policy.keep_reference()
    taken = []
    for number in range(2):
        begin = time.perf_counter()
        groups = [made_up(work, number * work.prompts + at) for at in range(work.prompts)]
        if algorithm.needs_reference:
            groups = policy.add_reference(groups, algorithm)
        policy.update(groups, algorithm)
        taken.append(time.perf_counter() - begin)
    return {"seconds": taken}


def made_up(work: Work, seed: int, prompt: int = 16, vocabulary: int = 60) -> Group:
    """Return a group of responses to one prompt of ``prompt`` tokens, all ids below ``vocabulary``."""
    rng = torch.Generator().manual_seed(seed)
    asked = tuple(torch.randint(vocabulary, (prompt,), generator=rng).tolist())

    def one(row: int) -> TrainSample:
        ids = torch.randint(vocabulary, (work.max_tokens,), generator=rng)
        logp_T = -torch.rand(work.max_tokens, generator=rng) - 1
        return TrainSample.of(
            asked, ids, advantage=(-1.0) ** row, old_logp=logp_T, entropy=torch.rand(work.max_tokens, generator=rng)
        )

    return tuple(one(row) for row in range(work.group))


if __name__ == "__main__":
    main()
