"""One measurement, in a process of its own: archer's loop, or TRL's GRPOTrainer on the same work."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import Any

import torch
from trl_step import Work

import archer.assembly
from archer.build import build_algorithm
from archer.examine import open_sandbox
from archer.grading import Grader
from archer.groups import Clock, shaped_reward
from archer.journal import Journal, read_lines
from archer.objectives import Algorithm
from archer.policies.load import load_model, model_path
from archer.problems import open_stream
from archer.prompts import Prompts
from archer.recipe import Recipe, read_recipe
from archer.train import train
from archer.types import Problem, Rollout

Steps = list[dict[str, Any]]
ROUND_TRIP = "12+345\ncolumns\n  a b=7 \\boxed{357}\n```python\ndef f(x):\n    return x\n```"
# What somebody who knows TRL changes on a CPU; the comparison's own settings are in ``trl_settings``.
TUNED = {
    "gradient_checkpointing": False, "bf16": False, "model_init_kwargs": {"dtype": "float32"},
    "dataloader_pin_memory": False, "dataloader_num_workers": 0, "logging_strategy": "no",
    "disable_tqdm": True,
}  # fmt: skip


def main() -> None:
    """Read the task, measure, write the answer."""
    task, answer = map(Path, sys.argv[1:])
    asked = json.loads(task.read_text())
    work = Work(**asked["work"])
    torch.set_num_threads(work.threads)
    run = run_archer if asked["contender"] == "archer" else run_trl
    told, steps, everything = run(work, asked["contender"] == "trl-tuned")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    found = {
        "steps": steps[work.warmup :], "rewards": [step["reward"] for step in steps], "rss_mib": peak,
        "threads": torch.get_num_threads(), "told": told, "settings": everything,
    }  # fmt: skip
    answer.write_text(json.dumps(found, default=str))


def recipe(work: Work) -> tuple[Recipe, list[str]]:
    """Return the lab's recipe with the work's changes, and these changes as ``--set`` takes them."""
    sources = ["lab-arithmetic", "lab-countdown", *(["lab-code"] if work.programs else [])]
    steps = work.warmup + work.steps
    rows = {"grpo": {"objective": {"kl_weight": 0.0}}, "dapo": {"groups": "all"}}
    changes = {
        "model.path": work.model, "steps": steps, "data": [{"name": name} for name in sources],
        "algorithms": rows, "rollout.prompts": work.prompts, "rollout.group": work.group,
        "rollout.max_tokens": work.max_tokens, "update.lr": work.lr, "update.warmup": 0,
        "update.mini_batch": work.mini_batch, "save.every": steps,
        "evaluate.benchmarks": [], "evaluate.every": 0,
    }  # fmt: skip
    told = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    return read_recipe("lab", told), told


def run_archer(work: Work, _tuned: bool) -> tuple[Any, Steps, Any]:
    """Run ``archer train`` as it is; a step ends when its rollouts and metrics are written."""
    moments: list[float] = []

    class Timed(Journal):
        def write(self, *columns: Any) -> None:
            super().write(*columns)
            moments.append(time.perf_counter())

    archer.assembly.Journal = Timed  # type: ignore[misc]
    made, told = recipe(work)
    with tempfile.TemporaryDirectory() as folder:
        run = archer.assembly.Run(made, work.algorithm, work.seed, Path(folder), work.threads)
        train(run)
        metrics, timings = (read_lines(Path(folder) / f"{name}.jsonl") for name in ("metrics", "timings"))
        manifest = run.manifest()
    steps = []
    for index, (metric, timing) in enumerate(zip(metrics, timings, strict=True)):
        total = moments[index] - moments[index - 1] if index else float("nan")
        parts = {"generate": timing["generate"], "reward": timing["reward"],
                 "score": timing.get("reference", 0.0), "update": timing["update"]}  # fmt: skip
        parts["rest"] = total - sum(parts.values())
        yields = {name: metric[name] for name in ("tokens", "length", "reward")}
        steps.append({"seconds": total, "parts": parts, **yields})
    return told, steps, manifest["recipe"]


@dataclass
class Judge:
    """TRL's reward function: archer's grader and shaping; remembers what a step earned."""

    problems: Sequence[Problem]
    grader: Grader
    algorithm: Algorithm
    max_tokens: int
    stops: frozenset[int] = frozenset()
    seen: Steps = field(default_factory=list)
    __name__: str = "judge"  # TRL asks for it

    def __call__(
        self, completions: list[Any], completion_ids: list[list[int]], number: list[int], **_: Any
    ) -> list[float]:
        """Return the rewards of completions; ``number`` is the data set's column that names the problem."""
        rollouts = [
            Rollout(self.problems[at], 0, (), tuple(ids), (), (), text[0]["content"],
                    "end" if ids[-1] in self.stops else "length")
            for text, ids, at in zip(completions, completion_ids, number, strict=True)
        ]  # fmt: skip
        graded = list(zip(rollouts, self.grader.grade(rollouts), strict=True))
        tokens = sum(len(ids) for ids in completion_ids)
        reward = sum(verdict.reward for _, verdict in graded) / len(graded)
        self.seen.append({"tokens": tokens, "length": tokens / len(graded), "reward": reward})
        return [shaped_reward(one, self.algorithm, self.max_tokens) for one in graded]


def trl_settings(work: Work, made: Recipe, algorithm: Algorithm, tuned: bool) -> dict[str, Any]:
    """Return what GRPOConfig is told: the work, and if ``tuned`` the choices of somebody who knows TRL.

    A micro-batch is a forward pass: ``gradient_accumulation_steps`` of them make one update, and
    ``steps_per_generation`` of them use up one generation.
    """
    responses = work.prompts * work.group
    mini = responses // work.updates
    micro = gcd(mini, work.trl_micro) if tuned else mini
    objective: Any = algorithm.objective
    settings = {
        "use_cpu": True, "seed": work.seed, "max_steps": made.steps * work.updates,
        "num_generations": work.group, "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": mini // micro, "steps_per_generation": responses // micro,
        "max_completion_length": work.max_tokens, "temperature": 1.0, "shuffle_dataset": False,
        "learning_rate": work.lr, "lr_scheduler_type": "constant", "weight_decay": made.update.weight_decay,
        "adam_beta1": made.update.betas[0], "adam_beta2": made.update.betas[1],
        "max_grad_norm": made.update.clip_norm, "loss_type": work.algorithm, "beta": 0.0,
        "epsilon": objective.clip[0], "epsilon_high": objective.clip[1], "delta": objective.dual_clip,
        "save_strategy": "no", "report_to": "none",
    }  # fmt: skip
    return {**settings, **TUNED, **work.trl} if tuned else settings


def run_trl(work: Work, tuned: bool) -> tuple[Any, Steps, Any]:
    """Train with GRPOTrainer; a step lasts from a generation's last update to the next one's."""
    from datasets import Dataset
    from trl import GRPOConfig

    (made, _), path = recipe(work), model_path(work.model)
    ours = Prompts(load_model(made.model)[1])
    algorithm = build_algorithm(made, work.algorithm)
    problems = open_stream(made.data, work.seed).take(0, made.steps * work.prompts)
    rows = Dataset.from_list([{"prompt": [talk(one)], "number": at} for at, one in enumerate(problems)])
    told = trl_settings(work, made, algorithm, tuned)
    with ExitStack() as stack:
        executor = open_sandbox(made, made.data, False, stack)
        grader = stack.enter_context(Grader(made.reward.workers, made.reward.seconds, executor))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        judge = Judge(problems, grader, algorithm, work.max_tokens)
        config = GRPOConfig(output_dir=folder, **told)
        trainer = watched_trainer()(model=path, reward_funcs=judge, args=config, train_dataset=rows)
        judge.stops = frozenset(trainer.eos_token_ids)
        check_prompts(trainer.processing_class, ours, problems)
        trainer.train()
    everything = {name: value for name, value in config.to_dict().items() if name != "output_dir"}
    return told, trl_steps(trainer, judge, work, made.steps), everything


def watched_trainer() -> type:
    """Return GRPOTrainer with a stop-watch at its parts, whose work is left as it is."""
    from transformers import TrainerCallback
    from trl import GRPOTrainer

    class Ends(TrainerCallback):
        def __init__(self, trainer: Any) -> None:
            self.trainer = trainer

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.trainer.ends.append((time.perf_counter(), dict(self.trainer.clock.seconds)))

    class Watched(GRPOTrainer):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.clock, self.ends, self.generations = Clock(), [], 0
            self.add_callback(Ends(self))

        def _generate(self, *arguments: Any, **options: Any) -> Any:
            self.generations += 1
            with self.clock("generate"):
                return super()._generate(*arguments, **options)

        def _calculate_rewards(self, *arguments: Any, **options: Any) -> Any:
            with self.clock("reward"):
                return super()._calculate_rewards(*arguments, **options)

        def _get_per_token_logps_and_entropies(self, *arguments: Any, **options: Any) -> Any:
            if torch.is_grad_enabled():  # the update's own forward pass
                return super()._get_per_token_logps_and_entropies(*arguments, **options)
            with self.clock("score"):
                return super()._get_per_token_logps_and_entropies(*arguments, **options)

    return Watched


def trl_steps(trainer: Any, judge: Judge, work: Work, count: int) -> Steps:
    """Return seconds and yields by step; fails unless every generation fed as many updates as archer's."""
    found = len(trainer.ends), trainer.generations, len(judge.seen)
    if found != (count * work.updates, count, count):
        raise RuntimeError(f"{count} steps of {work.updates} updates each, but TRL made {found}")
    # The first step's beginning is unknown: the trainer prepares itself before it.
    marks = [(float("nan"), {}), *trainer.ends[work.updates - 1 :: work.updates]]
    steps = []
    for (start, before), (end, after), seen in zip(marks, marks[1:], judge.seen, strict=False):
        parts = {name: after[name] - before.get(name, 0.0) for name in after}
        parts["update"] = end - start - sum(parts.values())  # and all the rest: the two are not told apart
        steps.append({"seconds": end - start, "parts": parts, **seen})
    return steps


def check_prompts(tokenizer: Any, ours: Prompts, problems: Sequence[Problem]) -> None:
    """Fail unless TRL's tokenizer reads and writes what ours does, spaces and line ends included."""
    for text in (ROUND_TRIP, *(one.prompt for one in problems)):
        if tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) != text:
            raise RuntimeError(f"TRL's tokenizer {type(tokenizer).__name__} does not give back {text!r}")
    for one in problems:
        ids = tokenizer.apply_chat_template([talk(one)], add_generation_prompt=True, return_dict=True)
        if tuple(ids["input_ids"]) != ours.encode(one):
            raise RuntimeError(f"{one.id}: TRL's prompt differs from ours")


def talk(problem: Problem) -> dict[str, str]:
    """Return the problem as a chat message: TRL applies the template itself."""
    return {"role": "user", "content": problem.prompt}


if __name__ == "__main__":
    main()
