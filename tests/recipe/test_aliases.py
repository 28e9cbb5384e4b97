"""Keys that had another name are read as before: in recipes, in --set, and in the manifests of run folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from archer.errors import RecipeError
from archer.recipe.aliases import KEYS, new_key, upgrade
from archer.recipe.reading import read_recipe, recorded_recipe
from archer.runs.folder import recorded_digest

# A recipe as it was written before, and the same with today's keys.
OLD = """
name: r
steps: 4
model: {path: lab, template: {enable_thinking: false}, context: 256}
data: [{name: lab-arithmetic}]
algorithms:
  all: {row: dapo, groups: all, averaging: response}
  refilled: {row: grpo, groups: refill, refills: 3}
rollout: {prompts: 4, group: 8, slots: 16, ahead: 1, vllm: {memory: 0.5}, correction: {kind: truncate}}
update: {mini_batch: 2, tokens: 512, clip_norm: 0.5, deepspeed: {stage: 1}, lora: {rank: 4}}
reward: {engines: [ssh://one]}
evaluate: {benchmarks: [lab-arithmetic], every: 2, curve_problems: 4, curve_samples: 2}
"""
NEW = """
name: r
steps: 4
model: {path: lab, chat_template_kwargs: {enable_thinking: false}, context: 256}
data: [{name: lab-arithmetic}]
algorithms:
  all: {base: dapo, group_filter: none, aggregation: response}
  refilled: {base: grpo, group_filter: resample, max_resample_rounds: 3}
rollout:
  {prompts: 4, samples_per_prompt: 8, max_concurrency: 16, prefetch: 1, vllm: {memory: 0.5}, correction: {kind: truncate}}
update: {mini_batch: 2, micro_batch_tokens: 512, max_grad_norm: 0.5, deepspeed: {stage: 1}, lora: {rank: 4}}
reward: {docker_hosts: [ssh://one]}
evaluate: {benchmarks: [lab-arithmetic], during_training: {every: 2, problems: 4, samples: 2}}
"""
# What `archer train` wrote into manifest.json before, of a recipe with the defaults of then, and its digest then.
MANIFEST = {
    "recipe": {
        "name": "m", "steps": 2, "algorithms": {"grpo": {}},
        "data": [{"name": "lab-arithmetic", "path": None, "revision": None, "config": "", "files": [], "split": "train",
                  "reward": "math", "prompt": "prompt", "gold": "answer", "instruction": "{prompt}", "weight": 1,
                  "format": "", "since": "", "until": ""}],
        "model": {"path": "lab", "revision": None, "template": {}, "context": None},
        "rollout": {"engine": "native", "vllm": {}, "correction": {}, "ahead": 0, "prompts": 32, "group": 16,
                    "temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_tokens": 128, "slots": 512},
        "update": {"lr": 1e-06, "warmup": 10, "schedule": "constant", "betas": [0.9, 0.999], "weight_decay": 0.1,
                   "clip_norm": 1.0, "mini_batch": 32, "epochs": 1, "tokens": 16384, "checkpointing": False,
                   "bf16": False, "deepspeed": None, "lora": None},
        "reward": {"workers": 0, "seconds": 5.0, "sandbox": "bubblewrap", "engines": [], "tests": 0},
        "evaluate": {"benchmarks": [], "samples": None, "sampling": {}, "server": "", "every": 0, "curve_problems": 32,
                     "curve_samples": 4},
        "save": {"every": 1, "keep": 1}, "log": [],
    },
    "recipe_digest": "0123456789abcdef", "algorithm": "grpo", "seed": 0,
}  # fmt: skip
PLAIN = "name: m\nsteps: 2\ndata: [{name: lab-arithmetic}]\nalgorithms: {grpo: {}}\n"


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_recipe_of_before_is_the_same_recipe(tmp_path: Path) -> None:
    old, new = read_recipe(written(tmp_path / "r.yaml", OLD)), read_recipe(written(tmp_path / "n.yaml", NEW))
    assert old == new
    assert old.digest("all") == new.digest("all")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rollout.slots=16", "rollout.max_concurrency=16"),
        ("evaluate.every=3", "evaluate.during_training.every=3"),
        ("algorithms.mine={row: dapo, groups: refill}", "algorithms.mine={base: dapo, group_filter: resample}"),
        ("algorithms.mine.groups=all", "algorithms.mine.group_filter=none"),
        ("model.template.enable_thinking=false", "model.chat_template_kwargs.enable_thinking=false"),
        ("update.deepspeed.stage=3", "update.deepspeed={stage: 3}"),
    ],
)
def test_set_takes_the_old_names_too(old: str, new: str) -> None:
    assert read_recipe("lab", [old]) == read_recipe("lab", [new])


def test_a_run_folder_of_before_is_known_by_its_recipe(tmp_path: Path) -> None:
    now = read_recipe(written(tmp_path / "m.yaml", PLAIN))
    assert recorded_recipe(MANIFEST, "manifest.json") == now
    assert recorded_digest(MANIFEST) == now.digest("grpo")
    assert recorded_digest({"recipe_digest": "abc"}) == "abc"


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(RecipeError, match="r.yaml: rollout.slots is the old name of rollout.max_concurrency, and both"):
        upgrade({"rollout": {"slots": 1, "max_concurrency": 2}}, "r.yaml")


def test_names_of_today_stay() -> None:
    assert [new_key(new.replace("*", "x")) for new in KEYS.values()] == [new.replace("*", "x") for new in KEYS.values()]
