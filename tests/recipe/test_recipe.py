"""Recipes: every bad value is one clear message, and the list of keys grows only on purpose."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from archer.algorithms import Algorithm
from archer.algorithms.archer import Archer
from archer.errors import RecipeError
from archer.recipe.algorithm import build_algorithm
from archer.recipe.reading import read_recipe
from archer.recipe.sections import Recipe

KEYS = [
    "algorithms",
    "data.config",
    "data.files",
    "data.format",
    "data.gold",
    "data.instruction",
    "data.name",
    "data.path",
    "data.prompt",
    "data.revision",
    "data.reward",
    "data.since",
    "data.split",
    "data.until",
    "data.weight",
    "evaluate.benchmarks",
    "evaluate.during_training.every",
    "evaluate.during_training.problems",
    "evaluate.during_training.samples",
    "evaluate.samples",
    "evaluate.sampling.max_tokens",
    "evaluate.sampling.temperature",
    "evaluate.sampling.top_k",
    "evaluate.sampling.top_p",
    "evaluate.server",
    "log",
    "model.chat_template_kwargs",
    "model.context",
    "model.path",
    "model.revision",
    "name",
    "reward.docker_hosts",
    "reward.sandbox",
    "reward.seconds",
    "reward.tests",
    "reward.workers",
    "rollout.correction.high",
    "rollout.correction.kind",
    "rollout.correction.level",
    "rollout.correction.low",
    "rollout.correction.stop",
    "rollout.correction.warn",
    "rollout.engine",
    "rollout.engine_options",
    "rollout.max_concurrency",
    "rollout.max_tokens",
    "rollout.prefetch",
    "rollout.prompts",
    "rollout.samples_per_prompt",
    "rollout.sglang.folder",
    "rollout.sglang.seconds",
    "rollout.sglang.servers",
    "rollout.temperature",
    "rollout.top_k",
    "rollout.top_p",
    "rollout.vllm.memory",
    "rollout.vllm.seconds",
    "rollout.vllm.servers",
    "rollout.vllm.sync",
    "save.every",
    "save.keep",
    "steps",
    "update.betas",
    "update.bf16",
    "update.checkpointing",
    "update.deepspeed.offload",
    "update.deepspeed.seconds",
    "update.deepspeed.stage",
    "update.epochs",
    "update.lora.alpha",
    "update.lora.rank",
    "update.lora.targets",
    "update.lr",
    "update.max_grad_norm",
    "update.micro_batch_tokens",
    "update.mini_batch",
    "update.schedule",
    "update.warmup",
    "update.weight_decay",
]


LAB_DIGEST, LAB_GRPO_DIGEST = "bbcdd6eca8bc6f72", "1c4a03b25a87d132"  # in the manifests of runs that there are


def keys(kind: type, prefix: str = "") -> list[str]:
    found = []
    for one in fields(kind):
        hint = get_type_hints(kind)[one.name]
        inner = next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
        found += keys(inner, f"{prefix}{one.name}.") if inner else [prefix + one.name]
    return found


def test_the_list_of_keys_is_frozen() -> None:
    assert sorted(keys(Recipe)) == sorted(KEYS)
    assert len(KEYS) <= 90


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rollout.promts=3", "lab.yaml: rollout: unknown key 'promts' (did you mean 'prompts'?)"),
        ("data=[{name: a, wieght: 3}]", "lab.yaml: data: 0: unknown key 'wieght' (did you mean 'weight'?)"),
        ("update.lr=fast", "lab.yaml: update: lr: input should be a valid number"),
        ("update.mini_batch=64", "mini_batch 64 is larger than the 32 prompts of a step"),
        ("rollout.temperature=0", "temperature 0.0 makes all 16 samples of a group the same"),
        ("rollout.samples_per_prompt=1", "samples_per_prompt 1 gives no group-relative advantage"),
        ("rollout.top_p=0.9", "train with top_p 1.0 and top_k 0"),
        ("evaluate.sampling.max_token=9", "evaluate: sampling: unknown key 'max_token' (did you mean 'max_tokens'?)"),
        ("model.context=-1", "model: context: input should be greater than or equal to 1 (found -1)"),
        ("steps=0", "steps: input should be greater than or equal to 1 (found 0)"),
        ("data=[]", "data: name at least one source"),
        ("steps", "--set steps: expected key=value"),
        ("update.lr.x=1", "--set update.lr.x=1: 'lr' holds 0.0003, not keys of its own"),
        ("reward.sandbox=dockr", "input should be 'bubblewrap', 'docker' or 'process' (found 'dockr')"),
    ],
)
def test_bad_values_say_what_and_where(change: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe("lab", [change])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("labb", "no shipped recipe 'labb' (did you mean 'lab'?)"),
        ("nowhere.yaml", "nowhere.yaml: no such recipe file"),
    ],
)
def test_unknown_recipes(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")):
        read_recipe(name)


def test_a_file_that_is_not_yaml(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: [")
    with pytest.raises(RecipeError, match="not readable as YAML"):
        read_recipe(str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["algorithms.archr={}"], "no algorithm 'archr' (did you mean 'archer'?)"),
        (
            ["algorithms.archr.objective.knowlege_kl=0", "algorithms.archr.base=archer"],
            "(did you mean 'knowledge_kl'?)",
        ),
        (["algorithms.archr={base: archer, objective: {scope: token}}"], "should be 'response' or 'batch'"),
        (
            ["algorithms.archr={base: archer, objective: {scope: batch, entropy: policy}}"],
            "needs entropy: rollout",
        ),
    ],
)
def test_bad_algorithms(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build_algorithm(read_recipe("lab", changes), "archr")
    assert message in str(caught.value)


def test_an_algorithm_is_a_row_with_changes() -> None:
    changes = ["algorithms.wide={base: archer, aggregation: response, objective: {reasoning_clip: [0.6, 0.7]}}"]
    row = build_algorithm(read_recipe("lab", changes), "wide")
    assert row.objective == Archer(reasoning_clip=(0.6, 0.7))
    assert row.aggregation == "response"


def test_numbers_are_read_as_numbers() -> None:
    assert read_recipe("lab", ["update.lr=1e-4"]).update.lr == 0.0001


def test_the_digest_tells_recipes_apart() -> None:
    assert read_recipe("lab").digest() == read_recipe("lab").digest()
    assert read_recipe("lab").digest() != read_recipe("lab", ["steps=41"]).digest()


def test_the_digest_of_a_recipe_of_before_stays() -> None:
    assert read_recipe("lab").digest() == LAB_DIGEST
    assert read_recipe("lab").digest("grpo", {}) == LAB_GRPO_DIGEST
    assert read_recipe("lab").digest("grpo", {"rewards: mine": "a1"}) != LAB_GRPO_DIGEST
    assert read_recipe("lab", ["rollout.engine_options={depth: 2}"]).digest() != LAB_DIGEST
    assert read_recipe("lab", ["evaluate.sampling={max_tokens: 24, temperature: 1}"]).digest() == "76bacf86cfd3a6e7"
    assert read_recipe("lab", ["evaluate.sampling={temperature: 0.6}"]).digest() == "da4a7eac1acfa9c8"


OUTSIDE = """
from dataclasses import dataclass, field
from archer.algorithms import ALGORITHMS, Algorithm

@dataclass(frozen=True)
class Mine:
    clip: tuple[float, float] = (0.1, 0.1)
    needs: frozenset = field(default=frozenset({"reward"}), init=False)
    def __call__(self, tokens):
        return -tokens.logp_BT * tokens["reward"], {}

@dataclass(frozen=True)
class Scaled:
    factor: float = 2.0
    def __call__(self, reward_PG):
        return self.factor * reward_PG

def last(length_B, longest):
    return length_B

MINE = Algorithm(Mine(), advantage=Scaled(), aggregation=last)
LACKING = Algorithm(ALGORITHMS["archer"].objective, columns={"group": last})
"""


def outside(folder: Path, changes: str) -> Algorithm:
    (folder / "mine.py").write_text(OUTSIDE)
    return build_algorithm(
        read_recipe("lab", [f"algorithms.mine={changes}".replace("FILE", f"{folder}/mine.py")]), "mine"
    )


def test_an_algorithm_and_its_parts_come_from_a_file(tmp_path: Path) -> None:
    made = outside(tmp_path, "{base: 'FILE:MINE', objective: {clip: [0.3, 0.4]}, advantage: {factor: 3}}")
    assert made.objective.clip == (0.3, 0.4)
    assert made.objective.needs == {"reward"}
    assert made.advantage_function.factor == 3.0
    assert made.aggregation_function.__name__ == "last"
    assert outside(tmp_path, "{base: 'FILE:MINE', advantage: centred}").advantage == "centred"
    named = outside(tmp_path, "{base: grpo, aggregation: 'FILE:last'}")
    assert named.aggregation_function is made.aggregation_function


def test_an_algorithm_from_a_file_is_checked_before_anything_is_sampled(tmp_path: Path) -> None:
    for changes, message in {
        "{base: 'FILE:LACKING'}": "lab: algorithms: mine: columns: 'group' is a name of the project's own",
        "{base: 'FILE:Mine'}": "expected an archer.algorithms.Algorithm, found <class",
        "{base: grpo, advantage: zscores}": "lab: algorithms: mine: advantages: no advantage 'zscores' (did you mean",
        "{base: grpo, advantage: 3}": "advantage",
        "{bse: grpo}": "lab: algorithms: mine: unknown key 'bse' (did you mean 'base'?)",
    }.items():
        with pytest.raises(RecipeError) as caught:
            outside(tmp_path, changes)
        assert message in str(caught.value)
