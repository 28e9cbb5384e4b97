"""What tests of several ranks share: made-up groups, a policy over the tiny model, and what to do on every rank.

Run by torchrun: ``python -m torch.distributed.run --nproc_per_node 2 tests/helpers/on_ranks.py TASK MODEL OUT [STAGE...]``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from archer.algorithms import ALGORITHMS, Algorithm
from archer.algorithms.tokens import Tokens
from archer.distributed import Ranks, join_ranks
from archer.errors import RunFolderError, UserError
from archer.models.loading import load_model
from archer.recipe.config import typed
from archer.recipe.sections import DataSource, ModelSection, Recipe, RolloutSection, UpdateSection
from archer.runs import checkpoints as checkpoint
from archer.trainer import Trainer, open_trainer
from archer.trainer.batch import Group, TrainSample
from archer.trainer.state import own_weights

# The clip takes hold in some steps and not in others: AdamW would hide a gradient that is wrong by a factor.
UPDATE = UpdateSection(
    lr=5e-5, warmup=2, mini_batch=2, micro_batch_tokens=100, weight_decay=0.1, schedule="linear", max_grad_norm=1.15
)
NAMES = ("archer", "dapo", "grpo")
LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8.0}}
VARIANTS: dict[str, dict[str, Any]] = {
    "offload-1": {"deepspeed": {"stage": 1, "offload": True}},
    "offload-2": {"deepspeed": {"stage": 2, "offload": True}},
    "offload-3": {"deepspeed": {"stage": 3, "offload": True}},
    "checkpointing-2": {"deepspeed": {"stage": 2}, "checkpointing": True},
    "checkpointing-3": {"deepspeed": {"stage": 3}, "checkpointing": True},
    "lora-0": {"deepspeed": {"stage": 0}, **LORA},
    "lora-2": {"deepspeed": {"stage": 2}, **LORA},
    "lora-3": {"deepspeed": {"stage": 3}, **LORA},
    "lora-checkpointing-3": {"deepspeed": {"stage": 3}, "checkpointing": True, **LORA},
    "one-response-a-step": {"deepspeed": {"stage": 3}, "mini_batch": 1, "micro_batch_tokens": 1},
}
CASES: dict[str, dict[str, Any]] = {
    "zero-0": {"deepspeed": {"stage": 0}},
    "zero-1": {"deepspeed": {"stage": 1}},
    "zero-2": {"deepspeed": {"stage": 2}},
    "zero-3": {"deepspeed": {"stage": 3}},
    "offload-2": {"deepspeed": {"stage": 2, "offload": True}},
    "bf16-0": {"deepspeed": {"stage": 0}, "bf16": True},
    "bf16-2": {"deepspeed": {"stage": 2}, "bf16": True},
    "bf16-3": {"deepspeed": {"stage": 3}, "bf16": True},
    "lora-2": {"deepspeed": {"stage": 2}, **LORA},
    "lora-3": {"deepspeed": {"stage": 3}, **LORA},
}


@dataclass(frozen=True)
class Centred:
    """-r (A - (the group's mean log-prob - the step's) / deviation) - weight H: as a user may write an objective."""

    weight: float = 0.1
    needs = frozenset({"entropy_gradient", "group"})

    def over_step(self, tokens: Tokens) -> Mapping[str, Tensor]:
        """How far the group's mean log-prob is from the step's, (B, 1), and the step's deviation, ()."""
        logp_N, group_N = tokens.logp_BT[tokens.mask_BT], tokens["group"][tokens.mask_BT]
        zeros = torch.zeros(int(group_N.max()) + 1, dtype=logp_N.dtype)
        sums, counts = (zeros.index_add(0, group_N, one) for one in (logp_N, torch.ones_like(logp_N)))
        apart = sums / counts - logp_N.mean()
        return {"apart": apart[tokens["group"][:, :1]], "deviation": logp_N.std()}

    def __call__(self, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        ratio_BT = (tokens.logp_BT - tokens.old_logp_BT).exp()
        advantage_BT = tokens.advantage_BT - tokens["apart"] / tokens["deviation"]
        return -ratio_BT * advantage_BT - self.weight * tokens["policy_entropy"], {"apart": tokens["apart"]}


CENTRED = Algorithm(Centred())


def groups(seed: int, count: int = 5) -> list[Group]:
    """Ragged groups of three ragged responses with made-up old log-probs, entropies and advantages."""
    make = torch.Generator().manual_seed(seed)
    made = []
    for index in range(3 * count):
        length = int(torch.randint(1, 40, (), generator=make))
        tokens = tuple(torch.randint(5, 300, (length,), generator=make).tolist())
        prompt = tuple(range(40, 44 + index % 3))
        old, entropy = -5.8 - torch.rand(length, generator=make) * 0.2, torch.rand(length, generator=make)
        made.append(
            TrainSample.of(prompt, tokens, advantage=[1.0, -0.7, -0.3][index % 3], old_logp=old, entropy=entropy)
        )
    return [tuple(made[start : start + 3]) for start in range(0, 3 * count, 3)]


def recipe(model: Path, **update: Any) -> Recipe:
    """The recipe of a policy of these tests."""
    return Recipe(
        "ranks", 20, (DataSource("lab-arithmetic"),), {"dapo": {}}, ModelSection(str(model)),
        RolloutSection(prompts=5, max_tokens=64), typed(UpdateSection, {**asdict(UPDATE), **update}, "tests"),
    )  # fmt: skip


def opened(model: Path, ranks: Ranks | None = None, **update: Any) -> Trainer:
    """A policy over the model in a folder."""
    made = recipe(model, **update)
    return open_trainer(made.update, made.rollout, load_model(made.model)[0], made.optimizer_steps, ranks or Ranks())


def trained(policy: Trainer, name: str, steps: range) -> list[dict[str, float]]:
    """Update once for each of ``steps``; return the metrics."""
    algorithm = {**ALGORITHMS, "outside": CENTRED}[name]
    metrics = []
    for step in steps:
        batch = groups(step)
        if algorithm.needs_reference:
            batch = policy.add_reference(batch, algorithm)
        metrics.append(policy.update(batch, algorithm))
    return metrics


def weights(policy: Trainer) -> dict[str, torch.Tensor]:
    """All weights, copied."""
    return {name: tensor.clone() for name, tensor in policy.weights()}


def equal(ranks: Ranks, model: Path, stages: list[str]) -> Any:
    """Ten steps of every algorithm in every stage: weights and metrics."""
    found = {}
    for stage in map(int, stages):
        for name in NAMES:
            policy = opened(model, ranks, deepspeed={"stage": stage})
            policy.keep_reference()
            metrics = trained(policy, name, range(10))
            found[stage, name] = weights(policy), metrics
    return found


def outside(ranks: Ranks, model: Path, stages: list[str]) -> Any:
    """Three steps of an algorithm of a user's in each stage, the third with checkpointing: weights and metrics."""
    found = {}
    for stage in map(int, stages):
        policy = opened(model, ranks, deepspeed={"stage": stage}, checkpointing=stage == 3)
        metrics = trained(policy, "outside", range(3))
        found[stage] = weights(policy), metrics
    return found


def variants(ranks: Ranks, model: Path, rest: list[str]) -> Any:
    """Three steps of each variant: weights and metrics."""
    found = {}
    for name, update in VARIANTS.items():
        policy = opened(model, ranks, **update)
        policy.keep_reference()
        metrics = trained(policy, "archer", range(3))
        found[name] = weights(policy), metrics
    return found


def scores(ranks: Ranks, model: Path, stages: list[str]) -> Any:
    """What the policy and the reference say of responses, after steps that moved one and not the other."""
    found = {}
    for stage in map(int, stages):
        policy = opened(model, ranks, deepspeed={"stage": stage})
        policy.keep_reference()
        trained(policy, "archer", range(2))
        found[stage] = [
            *policy.score(groups(9)),
            *policy.add_reference(groups(9), ALGORITHMS["grpo"]),
            *policy.score(groups(9)),
        ]
    return found


def resumed(ranks: Ranks, model: Path, rest: list[str]) -> Any:
    """Per case: a checkpoint after two steps, and the weights after four, gone through and gone on from it."""
    folder, found = Path(rest[0]), {}
    tokenizer = AutoTokenizer.from_pretrained(model)
    for name, update in CASES.items():
        policy = opened(model, ranks, **update)
        policy.keep_reference()
        trained(policy, "archer", range(2))
        checkpoint.save_checkpoint(folder / name, 2, policy, tokenizer, {"step": 2}, 1, ranks)
        masters = {key: value.clone() for key, value in own_weights(policy.backend)}
        metrics = trained(policy, "archer", range(2, 4))
        again = opened(model, ranks, **update)
        again.keep_reference()
        checkpoint.load_checkpoint(folder / name / "step-000002", again)
        back = {key: value.clone() for key, value in own_weights(again.backend)}
        after = trained(again, "archer", range(2, 4))
        found[name] = masters, back, metrics, after, weights(policy), weights(again)
    return found


def taken_over(ranks: Ranks, model: Path, rest: list[str]) -> Any:
    """Two more steps from the checkpoint of another policy, by stage."""
    found = {}
    for stage in map(int, rest[1:]):
        policy = opened(model, ranks, deepspeed={"stage": stage})
        policy.keep_reference()
        checkpoint.load_checkpoint(Path(rest[0]), policy)
        found[stage] = trained(policy, "archer", range(2, 4)), weights(policy)
    return found


def faults(ranks: Ranks, model: Path, stages: list[str]) -> Any:
    """What is said when training diverges, and when the disk is full."""
    found = {}
    for stage in map(int, stages):
        policy = opened(model, ranks, deepspeed={"stage": stage})
        batch = [tuple(one.having(advantage=float("nan")) for one in group) for group in groups(0)]
        try:
            policy.update(batch, ALGORITHMS["dapo"])
        except UserError as error:
            found[stage] = ranks.gather("errors", str(error))
    policy = opened(model, ranks, deepspeed={"stage": 3})
    try:
        checkpoint.save_checkpoint(Path("/proc/archer"), 1, policy, AutoTokenizer.from_pretrained(model), {}, 1, ranks)
    except RunFolderError as error:
        found["disk"] = ranks.gather("errors", str(error))
    return found


TASKS: dict[str, Callable[[Ranks, Path, list[str]], Any]] = {
    "equal": equal, "variants": variants, "scores": scores, "resumed": resumed, "taken_over": taken_over,
    "outside": outside,
    "faults": faults,
}  # fmt: skip


def main(task: str, model: str, out: str, *rest: str) -> None:
    with ExitStack() as stack:
        ranks = join_ranks(60.0, stack)
        found = TASKS[task](ranks, Path(model), list(rest))
        if ranks.main:
            torch.save(found, out)
        ranks.barrier("end of the test")


if __name__ == "__main__":
    main(*sys.argv[1:])
