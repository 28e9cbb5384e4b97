"""An adapter: merged by hand it is the same model, only it moves, and it goes on bitwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.on_ranks import groups, opened, recipe, trained, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from archer.algorithms import ALGORITHMS
from archer.distributed import Ranks
from archer.errors import RecipeError
from archer.models.loading import load_model
from archer.recipe.sections import ModelSection
from archer.runs import checkpoints as checkpoint
from archer.trainer import open_trainer
from archer.trainer.torch_backend import TorchBackend

GRPO = ALGORITHMS["grpo"]
LORA = {"lora": {"rank": 4, "alpha": 8.0}, "lr": 1e-2}


def parameters(policy: object) -> dict[str, torch.Tensor]:
    model = policy.backend.model  # type: ignore[attr-defined]
    return {name: one.detach().clone() for name, one in model.named_parameters()}


def test_only_the_adapter_moves(tiny: Path) -> None:
    policy = opened(tiny, **LORA)
    before = parameters(policy)
    trained(policy, "dapo", range(2))
    after = parameters(policy)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if ".lora_" in name}
    assert len(moved) == 2 * 7 * 2  # A and B of seven linear layers in each of two blocks


def test_merged_weights_are_w_plus_alpha_over_rank_b_a(tiny: Path) -> None:
    policy = opened(tiny, **LORA)
    trained(policy, "dapo", range(2))
    raw, whole = parameters(policy), weights(policy)
    place = "model.layers.1.mlp.up_proj"
    low, high = raw[f"{place}.lora_A.default.weight"], raw[f"{place}.lora_B.default.weight"]
    by_hand = raw[f"{place}.base_layer.weight"] + 2.0 * high @ low
    torch.testing.assert_close(whole[f"{place}.weight"], by_hand)
    assert float((by_hand - raw[f"{place}.base_layer.weight"]).abs().max()) > 1e-3
    plain, _ = load_model(ModelSection(str(tiny)))
    assert whole.keys() == dict(plain.named_parameters()).keys()


def test_the_merged_model_says_what_the_policy_says(tiny: Path, tmp_path: Path) -> None:
    policy = opened(tiny, **LORA)
    trained(policy, "dapo", range(2))
    checkpoint.save_checkpoint(tmp_path, 2, policy, AutoTokenizer.from_pretrained(tiny), {}, 1, Ranks())
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "step-000002")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, policy.backend.model(ids).logits, atol=1e-4, rtol=1e-4)  # type: ignore[attr-defined]


def test_the_reference_is_the_base_model_without_a_copy(tiny: Path) -> None:
    policy = opened(tiny, **LORA)
    policy.keep_reference()
    trained(policy, "dapo", range(2))
    base = opened(tiny)
    base.keep_reference()
    for ours, theirs in zip(policy.add_reference(groups(0), GRPO), base.add_reference(groups(0), GRPO), strict=True):
        assert all(torch.equal(one["ref_logp"], other["ref_logp"]) for one, other in zip(ours, theirs, strict=True))
    mechanics = policy.backend  # type: ignore[attr-defined]
    assert isinstance(mechanics, TorchBackend)
    assert mechanics.frozen is mechanics.scorer
    assert [one.requires_grad for name, one in mechanics.model.named_parameters() if ".lora_" in name] == [True] * 28


@pytest.mark.parametrize("name", ["archer", "dapo"])
def test_an_adapter_goes_on_bitwise(tiny: Path, tmp_path: Path, name: str) -> None:
    unbroken = opened(tiny, **LORA)
    unbroken.keep_reference()
    trained(unbroken, name, range(2))
    checkpoint.save_checkpoint(tmp_path, 2, unbroken, AutoTokenizer.from_pretrained(tiny), {}, 1, Ranks())
    expected = trained(unbroken, name, range(2, 4))
    resumed = opened(tiny, **LORA)
    resumed.keep_reference()
    checkpoint.load_checkpoint(tmp_path / "step-000002", resumed)
    assert trained(resumed, name, range(2, 4)) == expected
    left, right = parameters(unbroken), parameters(resumed)
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_first_weights_come_from_the_seed(tiny: Path) -> None:
    def low(seed: int) -> torch.Tensor:
        made = recipe(tiny, **LORA)
        policy = open_trainer(made.update, made.rollout, load_model(made.model)[0], made.optimizer_steps, Ranks(), seed)
        return parameters(policy)["model.layers.0.mlp.up_proj.lora_A.default.weight"]

    torch.manual_seed(1)
    first = low(0)
    torch.manual_seed(2)
    assert torch.equal(low(0), first)
    assert not torch.equal(low(1), first)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nothing_proj", "update.lora: targets .*nothing_proj"),
        ("lm_head", "the output layer"),
        ("embed_tokens", "no linear layer"),
    ],
)
def test_targets_that_cannot_have_one_are_refused(tiny: Path, target: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        opened(tiny, lora={"targets": [target]})


def test_named_targets_alone_get_an_adapter(tiny: Path) -> None:
    policy = opened(tiny, lora={"rank": 2, "targets": ["q_proj", "v_proj"]})
    names = {name.split(".")[4] for name in parameters(policy) if ".lora_A." in name}
    assert names == {"q_proj", "v_proj"}
