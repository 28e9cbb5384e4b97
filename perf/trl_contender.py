"""TRL's GRPOTrainer on a comparison's work: at its defaults, or as somebody who knows TRL sets it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from math import gcd
from typing import Any

import torch
from work import Work, recipe

from archer.algorithms import Algorithm
from archer.models.loading import load_tokenizer, model_path
from archer.models.prompts import PromptRenderer
from archer.problems.streams import open_stream, reward_of
from archer.recipe.algorithm import build_algorithm
from archer.recipe.sections import Recipe
from archer.rewards.grading import Grader
from archer.rewards.opening import open_sandbox
from archer.rollouts.collect import StepClock, shaped_reward
from archer.types import Problem, Rollout

Steps = list[dict[str, Any]]
NEVER = -1  # an end token that no model draws
ROUND_TRIP = "12+345\ncolumns\n  a b=7 \\boxed{357}\n```python\ndef f(x):\n    return x\n```"
# What somebody who knows TRL changes; the comparison's own settings are in ``trl_settings``.
TUNED = {
    "gradient_checkpointing": False, "dataloader_pin_memory": False, "dataloader_num_workers": 0,
    "logging_strategy": "no", "disable_tqdm": True, "model_init_kwargs": {"dtype": "float32"},
}  # fmt: skip


@dataclass
class Judge:
    """TRL's reward function: archer's grader and shaping; remembers what a step earned."""

    problems: Sequence[Problem]
    grader: Grader
    algorithm: Algorithm
    max_tokens: int
    shortest: int = 0
    stops: frozenset[int] = frozenset()
    seen: Steps = field(default_factory=list)
    __name__: str = "judge"  # TRL asks for it

    def __call__(
        self, completions: list[Any], completion_ids: list[list[int]], number: list[int], **_: Any
    ) -> list[float]:
        """Return the rewards of completions; ``number`` is the data set's column that names the problem."""
        rollouts = [
            Rollout.of_text(self.problems[at], text[0]["content"], "end" if ids[-1] in self.stops else "length")
            for text, ids, at in zip(completions, completion_ids, number, strict=True)
        ]
        graded = list(zip(rollouts, self.grader.grade(rollouts), strict=True))
        tokens = sum(len(ids) for ids in completion_ids)
        reward = sum(verdict.score for _, verdict in graded) / len(graded)
        self.seen.append({"tokens": tokens, "length": tokens / len(graded), "reward": reward})
        if min(map(len, completion_ids)) < self.shortest:
            raise RuntimeError(f"a response of {min(map(len, completion_ids))} tokens, not {self.shortest}")
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
        "use_cpu": not work.gpu, "seed": work.seed, "max_steps": made.steps * work.updates,
        "num_generations": work.group, "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": mini // micro, "steps_per_generation": responses // micro,
        "max_completion_length": work.max_tokens, "temperature": 1.0, "shuffle_dataset": False,
        "learning_rate": work.lr, "lr_scheduler_type": "constant", "weight_decay": made.update.weight_decay,
        "adam_beta1": made.update.betas[0], "adam_beta2": made.update.betas[1],
        "max_grad_norm": made.update.max_grad_norm, "loss_type": work.algorithm, "beta": 0.0,
        "epsilon": objective.clip[0], "epsilon_high": objective.clip[1], "delta": objective.dual_clip,
        "save_strategy": "no", "report_to": "none",
    }  # fmt: skip
    if work.lengths == "fixed":
        settings["generation_kwargs"] = {"eos_token_id": NEVER}
    return {**settings, **TUNED, "bf16": work.gpu, **work.trl} if tuned else settings


def run_trl(work: Work, tuned: bool) -> tuple[Any, Steps, Any]:
    """Train with GRPOTrainer; a step lasts from a generation's last update to the next one's."""
    with ExitStack() as stack:
        trainer, judge, told = open_trainer(work, tuned, stack)
        trainer.train()
    everything = {name: value for name, value in trainer.args.to_dict().items() if name != "output_dir"}
    return told, trl_steps(trainer, judge, work, work.warmup + work.steps), everything


def open_trainer(work: Work, tuned: bool, stack: ExitStack) -> tuple[Any, Judge, dict[str, Any]]:
    """Return the trainer, what judges for it, and what it was told; what must be closed goes on ``stack``."""
    from datasets import Dataset
    from trl import GRPOConfig

    made, path = recipe(work), model_path(work.model)
    ours = PromptRenderer(load_tokenizer(made.model))
    algorithm = build_algorithm(made, work.algorithm)
    problems = open_stream(made.data, work.seed).take(0, made.steps * work.prompts)
    rows = Dataset.from_list([{"prompt": [talk(one)], "number": at} for at, one in enumerate(problems)])
    told = trl_settings(work, made, algorithm, tuned)
    executor = open_sandbox(made.reward, {reward_of(source) for source in made.data}, False, stack)
    grader = stack.enter_context(Grader(made.reward.workers, made.reward.seconds, executor))
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    judge = Judge(problems, grader, algorithm, work.max_tokens, work.max_tokens if work.lengths == "fixed" else 0)
    config = GRPOConfig(output_dir=folder, **told)
    trainer = watched_trainer()(model=path, reward_funcs=judge, args=config, train_dataset=rows)
    if work.lengths == "fixed":
        trainer.eos_token_ids = []  # else it cuts responses at the first one, whatever generation was told
    judge.stops = frozenset(trainer.eos_token_ids)
    check_prompts(trainer.processing_class, ours, problems)
    return trainer, judge, told


def update_trl(work: Work, tuned: bool) -> dict[str, Any]:
    """Train on made-up responses of ``max_tokens`` tokens; return the seconds of each update."""
    with ExitStack() as stack:
        trainer, judge, told = open_trainer(work, tuned, stack)

        def made_up(prompt_ids: Sequence[Any], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
            shape = (len(prompt_ids), work.max_tokens)
            return torch.randint(60, shape, generator=torch.Generator().manual_seed(len(judge.seen))).tolist(), None

        trainer._generate_single_turn = made_up
        begin = time.perf_counter()
        trainer.train()
    moments = [begin, *(end for end, _ in trainer.ends)]
    return {"seconds": [after - before for before, after in pairwise(moments)], "told": told}


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
            self.clock, self.ends, self.generations = StepClock(), [], 0
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


def check_prompts(tokenizer: Any, ours: PromptRenderer, problems: Sequence[Problem]) -> None:
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
