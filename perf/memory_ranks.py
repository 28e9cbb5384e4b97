"""Predicted against measured memory of DeepSpeed's stages: what each of two ranks on the CPU holds.

    python perf/memory_ranks.py --record        # needs the deepspeed extra

Each stage, in processes of its own, opens the policy that training uses, updates twice and counts the tensors that are
alive, and how many were at most in the second update. On the CPU an offloaded optimizer lies where everything does:
offload is not measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from contextlib import ExitStack

import torch
from common import keep, peers
from transformers import AutoModelForCausalLM, Qwen2Config

from archer.distributed import Ranks, join_ranks
from archer.recipe.algorithm import build_algorithm
from archer.recipe.config import typed
from archer.recipe.sections import Recipe
from archer.tools.planning.activations import PassDtypes, kept
from archer.tools.planning.live import LiveBytes
from archer.tools.planning.memory import Cluster, RankLoad, pass_parts, state_parts
from archer.tools.planning.shape import read_shape
from archer.trainer import open_trainer
from archer.trainer.batch import Group, TrainSample
from archer.types import Json

CONFIG = Qwen2Config(
    hidden_size=256, intermediate_size=1024, num_hidden_layers=6, vocab_size=4096, num_attention_heads=4,
    num_key_value_heads=2,
)  # fmt: skip
PROMPT, TOKENS = 16, 64
STAGES = [(0, False), (1, False), (2, False), (3, False), (1, True), (2, True), (3, True)]


def recipe_of(stage: int, bf16: bool) -> Recipe:
    """Return a recipe of one mini-batch: two groups of four."""
    update = {"bf16": bf16, "checkpointing": True, "mini_batch": 2, "micro_batch_tokens": 2 * (PROMPT + TOKENS),
              "deepspeed": {"stage": stage, "seconds": 120}}  # fmt: skip
    rollout = {"prompts": 2, "samples_per_prompt": 4, "max_tokens": TOKENS}
    values = {"name": "memory", "steps": 1, "data": [{"name": "lab-arithmetic"}], "algorithms": {"grpo": {}}}
    return typed(Recipe, {**values, "rollout": rollout, "update": update}, "memory_ranks.py")


def alive() -> int:
    """Return the bytes of all tensors that Python knows of, each memory once."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
    return sum({one.untyped_storage()._cdata: one.untyped_storage().nbytes() for one in tensors}.values())


def group(seed: int) -> Group:
    """Return made-up responses."""
    rng = torch.Generator().manual_seed(seed)

    def one(row: int) -> TrainSample:
        ids = torch.randint(CONFIG.vocab_size, (PROMPT + TOKENS,), generator=rng).tolist()
        logp_T, entropy_T = -torch.rand(TOKENS, generator=rng) - 1, torch.rand(TOKENS, generator=rng)
        return TrainSample.of(ids[:PROMPT], ids[PROMPT:], advantage=(-1.0) ** row, old_logp=logp_T, entropy=entropy_T)

    return tuple(one(row) for row in range(4))


def measure(recipe: Recipe, ranks: Ranks) -> dict[str, float]:
    """Return the bytes after an update, and at most in one."""
    torch.manual_seed(0)
    before = alive()
    model = AutoModelForCausalLM.from_config(CONFIG, dtype=torch.float32)
    policy = open_trainer(recipe.update, recipe.rollout, model, recipe.optimizer_steps, ranks)
    policy.keep_reference()
    row = build_algorithm(recipe, "grpo")
    groups = policy.add_reference([group(1), group(2)], row)
    policy.update(groups, row)
    resting = alive() - before
    with LiveBytes() as live:
        policy.update(groups, row)
    return {"resting": float(resting), "updating": float(resting + live.peak)}


def predict(recipe: Recipe, bf16: bool, world: int) -> dict[str, float]:
    """Return the same, predicted."""
    shape, row = read_shape(CONFIG, ""), PROMPT + TOKENS
    load = RankLoad(PROMPT, row, 2 * row, 4, 1)
    state = state_parts(recipe, shape, Cluster(1, world), reference=True)
    passing = pass_parts(recipe, shape, kept(CONFIG, PassDtypes(bf16, False)), load)
    updating = sum(part.updating for part in (*state, *passing))
    return {"resting": float(sum(part.sampling for part in state)), "updating": updating}


def one_stage(stage: int, bf16: bool) -> None:
    """Measure a stage as a rank; rank 0 prints what comes of it."""
    with ExitStack() as stack:
        ranks = join_ranks(120, stack)
        recipe = recipe_of(stage, bf16)
        measured, predicted = measure(recipe, ranks), predict(recipe, bf16, ranks.world)
        ratios = {name: round(predicted[name] / measured[name], 3) for name in measured}
        row = {"stage": stage, "bf16": bf16, "ranks": ranks.world, "measured": measured, "predicted": predicted}
        if ranks.main:
            print("\n" + json.dumps({**row, "predicted / measured": ratios}), flush=True)


def launched(stage: int, bf16: bool) -> Json:
    """Return what two ranks measure."""
    words = [__file__, "--stage", str(stage), *(["--bf16"] if bf16 else [])]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith('{"stage"')]
    if done.returncode or not rows:
        sys.exit(f"stage {stage}: {done.stderr[-2000:]}")
    return json.loads(rows[0])


def main() -> None:
    """Measure every stage and print, or record, the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--stage", type=int, help="measure this one, as a rank")
    parser.add_argument("--bf16", action="store_true", help="with --stage")
    options = parser.parse_args()
    if options.stage is not None:
        one_stage(options.stage, options.bf16)
        return
    found = []
    for stage, bf16 in STAGES:
        found.append(launched(stage, bf16))
        print(f"stage {stage} {'bfloat16' if bf16 else 'float32'}", found[-1]["predicted / measured"], flush=True)
    if options.record:
        print(f"Record: {keep('memory-ranks', {'peers': peers('deepspeed'), 'measurements': found})}")


if __name__ == "__main__":
    main()
