"""Predicted against measured memory: `archer train --dry-run`'s parts beside those of real updates.

    python perf/memory.py --record                          # small models on the CPU
    python perf/memory.py --shape deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --record         # a GPU: random weights
    python perf/memory.py --shape Qwen/Qwen3-8B --layers 2 --vocabulary 4096 --hidden 256 --tokens 512  # small

One update of the policy that training uses, after one that is not counted. On the CPU every allocation is torch's own
report of it to its profiler; on a GPU the numbers are torch's allocator's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass

import torch
from common import keep
from transformers import AutoModelForCausalLM, PretrainedConfig, Qwen2Config

from archer.distributed import Ranks
from archer.models.loading import load_config
from archer.recipe.algorithm import build_algorithm
from archer.recipe.config import typed
from archer.recipe.sections import ModelSection, Recipe
from archer.tools.planning.activations import PassDtypes, kept, with_layers
from archer.tools.planning.memory import Cluster, RankLoad, memory_of
from archer.tools.planning.metered import Levels, metered
from archer.tools.planning.shape import find_model, read_shape
from archer.trainer import open_trainer
from archer.trainer.batch import Group, TrainSample
from archer.types import Json

SMALL = {
    "small": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "vocab_size": 2048},
    "deep": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 8, "vocab_size": 1024},
    "wide": {"hidden_size": 256, "intermediate_size": 2048, "num_hidden_layers": 2, "vocab_size": 16384},
}
PROMPT = 16


@dataclass(frozen=True)
class Case:
    """One measurement: a model, the arithmetic, and micro-batches of ``rows`` responses of ``tokens`` tokens."""

    model: str
    config: PretrainedConfig
    bf16: bool
    checkpointing: bool
    rows: int
    tokens: int

    @property
    def recipe(self) -> Recipe:
        """Two micro-batches an update: in the second the gradients of all weights are there."""
        group = 2 * self.rows
        update = {"bf16": self.bf16, "checkpointing": self.checkpointing, "mini_batch": 1,
                  "micro_batch_tokens": self.rows * (PROMPT + self.tokens)}  # fmt: skip
        rollout = {"prompts": 1, "samples_per_prompt": group, "max_tokens": self.tokens}
        values = {"name": "memory", "steps": 1, "data": [{"name": "lab-arithmetic"}], "algorithms": {"grpo": {}}}
        return typed(Recipe, {**values, "rollout": rollout, "update": update}, "memory.py")


def measure(case: Case, device: torch.device) -> dict[str, float]:
    """Return the measured bytes by part."""
    levels: Levels = {}
    recipe = case.recipe
    algorithm = build_algorithm(recipe, "grpo")
    torch.manual_seed(0)
    with metered(levels, device) as mark:
        mark("start")
        model = AutoModelForCausalLM.from_config(case.config, dtype=torch.float32).to(device)
        mark("weights")
        policy = open_trainer(recipe.update, recipe.rollout, model, recipe.optimizer_steps, Ranks())
        mark("policy")
        policy.keep_reference()
        mark("reference")
        groups = policy.add_reference([group(case)], algorithm)
        policy.update(groups, algorithm)
        mark("first update")
        hooks = watch(model, policy, mark)
        policy.update(groups, algorithm)
        mark("second update")
        for hook in hooks:
            hook.remove()
    return parts_of(levels)


def watch(
    model: torch.nn.Module, policy: object, mark: Callable[[str], None]
) -> list[torch.utils.hooks.RemovableHandle]:
    """Mark the second micro-batch's forward pass and the backward passes of its head and layers."""
    count = {"forward": 0}

    def before(*_: object) -> None:
        count["forward"] += 1
        if count["forward"] == 2:
            mark("forward")

    def after(module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if count["forward"] == 2:
            mark("passed")
            inputs[0].register_hook(lambda _: mark("head done"))

    mechanics = policy.backend  # type: ignore[attr-defined]
    return [
        model.base_model.register_forward_pre_hook(before),
        mechanics.scorer.head.register_forward_pre_hook(after),
        mechanics.optimizer.register_step_pre_hook(lambda *_: mark("step")),
    ]


def parts_of(levels: Levels) -> dict[str, float]:
    """Return bytes by part from what was held at the marks."""
    at = {name: level for name, (level, _) in levels.items()}
    most = {name: peak for name, (_, peak) in levels.items()}
    return {
        "weights": at["weights"] - at["start"],
        "reference": at["reference"] - at["policy"],
        "optimizer": at["first update"] - at["reference"],
        "gradients": at["step"] - at["first update"],
        "activations": at["passed"] - at["forward"],
        "logits chunk": most["head done"] - at["passed"],
        "a layer again": most["step"] - at["passed"],
        "bfloat16 copies": most["passed"] - at["passed"],
        "peak": max(most[name] for name in ("forward", "passed", "head done", "step", "second update")) - at["start"],
    }


def group(case: Case) -> Group:
    """Return made-up responses, all of one length."""
    rng = torch.Generator().manual_seed(1)

    def one(row: int) -> TrainSample:
        ids = torch.randint(case.config.vocab_size, (PROMPT + case.tokens,), generator=rng).tolist()
        logp_T, entropy_T = -torch.rand(case.tokens, generator=rng) - 1, torch.rand(case.tokens, generator=rng)
        return TrainSample.of(ids[:PROMPT], ids[PROMPT:], advantage=(-1.0) ** row, old_logp=logp_T, entropy=entropy_T)

    return tuple(one(row) for row in range(2 * case.rows))


def predict(case: Case) -> dict[str, float]:
    """Return the predicted bytes by part."""
    row = PROMPT + case.tokens
    load = RankLoad(PROMPT, row, case.rows * row, 2 * case.rows, 1)
    what = kept(case.config, PassDtypes(bf16_weights=False, autocast=case.bf16))
    found = memory_of(case.recipe, read_shape(case.config, ""), what, load, Cluster(), reference=True)
    parts = {part.name: part.updating for part in found.parts if part.name != "reserve"}
    return {**parts, "peak": sum(parts.values())}


def compare(case: Case, device: torch.device) -> dict[str, Json]:
    """Measure and predict one case; return both, and their ratio by part."""
    measured, predicted = measure(case, device), predict(case)
    ratios = {name: round(predicted[name] / measured[name], 3) for name in predicted if measured.get(name, 0) > 0}
    how = {"bf16": case.bf16, "checkpointing": case.checkpointing, "rows": case.rows, "tokens": case.tokens}
    print(f"{case.model:22}", *how.values(), json.dumps(ratios), f"{measured['peak'] / 2**20:.0f} MiB", flush=True)
    return {"model": case.model, **how, "config": case.config.to_diff_dict(), "measured": measured,
            "predicted": predicted, "predicted / measured": ratios}  # fmt: skip


def cases(options: argparse.Namespace) -> list[Case]:
    """Return what to measure."""
    if options.shape:
        config, tokens = shaped(options), options.tokens
        sizes = [(options.shape, config, 1, tokens), (options.shape, config, 2, tokens // 4)]
    else:
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096}
        configs = [(name, Qwen2Config(**shape, **heads)) for name, shape in SMALL.items()]
        sizes = [(*one, rows, tokens) for one in configs for rows, tokens in ((4, 240), (1, 1500))]
    return [
        Case(name, config, bf16, checkpointing, rows, tokens)
        for name, config, rows, tokens in sizes
        for bf16 in (False, True)
        for checkpointing in (False, True)
    ]


def shaped(options: argparse.Namespace) -> PretrainedConfig:
    """Return the configuration of ``--shape`` with the command line's changes."""
    values = load_config(find_model(ModelSection(options.shape))[0]).to_dict()
    given = {"vocab_size": options.vocabulary, "hidden_size": options.hidden}
    values |= {name: value for name, value in given.items() if value}
    if options.hidden:
        values |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": options.hidden // 4}
    return with_layers(values, options.layers or values["num_hidden_layers"])


def main() -> None:
    """Measure every case and print, or record, the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="", help="a model whose configuration is at hand")
    parser.add_argument("--layers", type=int, help="in place of the model's")
    parser.add_argument("--vocabulary", type=int, help="in place of the model's")
    parser.add_argument("--hidden", type=int, help="in place of the model's")
    parser.add_argument("--tokens", type=int, default=8192, help="of the longest response, with --shape")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    found = [compare(case, device) for case in cases(options)]
    if options.record:
        print(f"Record: {keep('memory', {'device': where, 'measurements': found})}")


if __name__ == "__main__":
    main()
