"""One optimizer step: the same whatever the micro-batches, and what the learning rate does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from archer.algorithms import ALGORITHMS
from archer.distributed import Ranks
from archer.errors import ModelError, RecipeError
from archer.models.loading import load_model
from archer.recipe.sections import DataSource, ModelSection, Recipe, UpdateSection
from archer.system import PassWork
from archer.trainer import open_trainer
from archer.trainer.balance import rounds, shares
from archer.trainer.batch import Group, TrainSample, micro_batches, mini_batches
from archer.trainer.scoring import check_head
from archer.trainer.torch_backend import TorchBackend
from archer.trainer.trainer import Trainer, lr_factor

GRPO = ALGORITHMS["grpo"]
UPDATE = UpdateSection(lr=1e-2, warmup=1, mini_batch=2, micro_batch_tokens=10_000, weight_decay=0.0)


def groups(seed: int = 0) -> list[Group]:
    """Four groups of three ragged responses with made-up old log-probs and entropies."""
    make = torch.Generator().manual_seed(seed)
    made = []
    for index in range(12):
        length = 3 + 2 * index
        tokens = tuple(torch.randint(5, 300, (length,), generator=make).tolist())
        prompt = tuple(range(40, 44 + index % 3))
        old, entropy = -5.8 - torch.rand(length, generator=make) * 0.2, torch.rand(length, generator=make)
        made.append(
            TrainSample.of(prompt, tokens, advantage=[1.0, -0.7, -0.3][index % 3], old_logp=old, entropy=entropy)
        )
    return [tuple(made[start : start + 3]) for start in range(0, 12, 3)]


def policy_of(model: torch.nn.Module, update: UpdateSection) -> Trainer:
    """The policy in one process."""
    return Trainer(TorchBackend(model, update, temperature=1.0), update, optimizer_steps=100, longest=32, ranks=Ranks())


def trained(tiny: Path, name: str, update: UpdateSection, batch: list[Group]) -> tuple[dict, dict]:
    model, _ = load_model(ModelSection(str(tiny)))
    # In float64: AdamW divides by the gradient's size, so float32's noise around zero gradients would be moved by lr.
    policy = policy_of(model.double(), update)
    if ALGORITHMS[name].needs_reference:
        policy.keep_reference()
        batch = policy.add_reference(batch, ALGORITHMS[name])
    metrics = policy.update(batch, ALGORITHMS[name])
    return dict(model.state_dict()), metrics


@pytest.mark.parametrize("name", ["archer", "archer-released", "dapo", "grpo", "dr-grpo"])
def test_micro_batch_budget_changes_no_gradient_and_no_metric(tiny: Path, name: str) -> None:
    whole, metrics = trained(tiny, name, UPDATE, groups())
    for budget in (1, 70):  # a response each; a few each
        cut, same = trained(tiny, name, replace(UPDATE, micro_batch_tokens=budget), groups())
        for key in whole:
            torch.testing.assert_close(cut[key], whole[key], atol=1e-9, rtol=0)
        assert same == pytest.approx(metrics, abs=1e-6)


def test_order_of_responses_in_a_mini_batch_changes_nothing(tiny: Path) -> None:
    batch = groups()
    turned = [tuple(reversed(group)) for group in (batch[1], batch[0], batch[3], batch[2])]
    whole, _ = trained(tiny, "archer", UPDATE, batch)
    other, _ = trained(tiny, "archer", UPDATE, turned)
    for key in whole:
        torch.testing.assert_close(other[key], whole[key], atol=1e-9, rtol=0)


def test_a_good_response_becomes_likelier_and_a_bad_one_less(tiny: Path) -> None:
    batch = groups()
    model, _ = load_model(ModelSection(str(tiny)))
    policy = policy_of(model, UPDATE)
    policy.keep_reference()
    before = [one["ref_logp"].sum() for group in policy.add_reference(batch, GRPO) for one in group]
    # Old log-probs that are the policy's own, so that the first update starts at ratio 1.
    own = [
        tuple(one.having(old_logp=one["ref_logp"]).without("ref_logp", "kl_mask") for one in g)
        for g in policy.add_reference(batch, GRPO)
    ]
    for _ in range(3):
        policy.update(own, ALGORITHMS["dapo"])
    policy.keep_reference()
    after = [one["ref_logp"].sum() for group in policy.add_reference(batch, GRPO) for one in group]
    rise = [float(new - old) for old, new in zip(before, after, strict=True)]
    assert sum(rise[0::3]) > sum(rise[1::3])


def test_filtered_responses_do_not_train(tiny: Path) -> None:
    batch = groups()
    without = [tuple(replace(one, in_loss=index > 0) for index, one in enumerate(group)) for group in batch]
    other = [
        tuple(one.having(advantage=9.0) if index == 0 else one for index, one in enumerate(group)) for group in without
    ]
    first, _ = trained(tiny, "dapo", UPDATE, without)
    second, _ = trained(tiny, "dapo", UPDATE, other)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_micro_batches_hold_every_row_once_within_the_budget() -> None:
    lengths = [5, 30, 7, 7, 12, 100, 1]
    batches = micro_batches(lengths, 30)
    assert sorted(row for batch in batches for row in batch) == [0, 1, 2, 3, 4, 5, 6]
    for batch in batches:
        assert len(batch) * max(lengths[row] for row in batch) <= 30 or len(batch) == 1
    assert batches == [[6, 0, 2, 3], [4], [1], [5]]


def test_mini_batches_keep_groups_whole() -> None:
    sizes = [len(mini) for mini in mini_batches(groups()[:3], 2)]
    assert sizes == [6, 3]


def test_shares_hold_every_response_once_and_balance_tokens() -> None:
    assert shares([9, 1, 5, 5, 4], 2) == [[0, 4], [1, 2, 3]]  # 9 | 5 | 5, then 4 to the 9, 1 to the 10
    assert shares([7, 3, 3], 1) == [[0, 1, 2]]
    assert shares([5], 3) == [[0], [], []]


def test_every_rank_runs_as_many_micro_batches() -> None:
    made = [TrainSample.of((1,), (2,) * (length - 1)) for length in [30, 8, 8, 8, 6]]
    first, second = (rounds(made, 16, rank, 2, sharing=False) for rank in (0, 1))
    assert (first, second) == ([[0], []], [[4, 1], [2, 3]])
    assert rounds(made, 16, 0, 1, sharing=False) == [[4, 1], [2, 3], [0]]
    assert [rounds(made, 16, rank, 2, sharing=True) for rank in (0, 1)] == [[[0]], [[1, 2, 3, 4]]]
    assert rounds([], 16, 1, 2, sharing=True) == rounds([], 16, 1, 2, sharing=False) == [[]]


def test_a_correction_weighs_the_advantage_of_each_token(tiny: Path) -> None:
    batch = groups()
    zero = [tuple(one.having(correction=torch.zeros(len(one.tokens))) for one in group) for group in batch]
    one = [tuple(one.having(correction=torch.ones(len(one.tokens))) for one in group) for group in batch]
    before = dict(load_model(ModelSection(str(tiny)))[0].double().state_dict())
    still, _ = trained(tiny, "dapo", UPDATE, zero)
    same, _ = trained(tiny, "dapo", UPDATE, one)
    plain, _ = trained(tiny, "dapo", UPDATE, batch)
    assert all(torch.equal(still[key], before[key]) for key in before)
    assert all(torch.equal(same[key], plain[key]) for key in plain)
    assert any(not torch.equal(plain[key], before[key]) for key in plain)


def test_scores_are_the_policy_s_own_and_the_engine_s_are_kept(tiny: Path) -> None:
    policy = policy_of(load_model(ModelSection(str(tiny)))[0], UPDATE)
    policy.keep_reference()
    batch = groups()
    scored, referred = policy.score(batch), policy.add_reference(batch, GRPO)
    for group, asked, other in zip(scored, batch, referred, strict=True):
        for new, old, ref in zip(group, asked, other, strict=True):
            assert torch.equal(new["engine_logp"], old["old_logp"])
            assert torch.equal(new["old_logp"], ref["ref_logp"])
            assert new["entropy"].shape == (len(new.tokens),)
            assert float(new["entropy"].max()) <= 5.85  # log of the vocabulary of 344


def test_archer_asks_the_reference_about_knowledge_tokens_alone(tiny: Path) -> None:
    policy = policy_of(load_model(ModelSection(str(tiny)))[0], UPDATE)
    policy.keep_reference()
    batch, policy.tally["reference"] = groups(), PassWork()
    referred = policy.add_reference(batch, ALGORITHMS["archer"])
    asked = 0
    for one in (one for group in referred for one in group):
        high_T = one["entropy"] >= one["entropy"].quantile(0.8)
        assert torch.equal(one["kl_mask"], ~high_T)
        asked += int((~high_T).sum())
    assert policy.tally["reference"].rows == asked == 130
    everything = policy.add_reference(batch, ALGORITHMS["grpo"])
    for one, whole in zip(referred[3], everything[3], strict=True):
        torch.testing.assert_close(one["ref_logp"][one["kl_mask"]], whole["ref_logp"][one["kl_mask"]])
        assert torch.equal(one["ref_logp"][~one["kl_mask"]], one["old_logp"][~one["kl_mask"]])  # never asked for


@pytest.mark.parametrize("name", [name for name, row in ALGORITHMS.items() if not row.needs_reference])
def test_what_has_no_signal_goes_through_no_forward_pass_and_still_counts(tiny: Path, name: str) -> None:
    batch = groups()
    batch[1] = tuple(one.having(advantage=0.0) for one in batch[1])
    policy = policy_of(load_model(ModelSection(str(tiny)))[0].double(), UPDATE)
    policy.update(batch, ALGORITHMS[name])
    assert policy.tally["update"].rows == sum(
        len(one.tokens) for group in batch for one in group if one["advantage"].any()
    )
    # The same responses with an advantage too small to see, which are forwarded: only the normaliser is theirs.
    batch[1] = tuple(one.having(advantage=1e-30) for one in batch[1])
    forwarded = policy_of(load_model(ModelSection(str(tiny)))[0].double(), UPDATE)
    forwarded.update(batch, ALGORITHMS[name])
    for ours, theirs in zip(policy.backend.model.parameters(), forwarded.backend.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


def test_a_mini_batch_without_signal_still_moves_by_momentum(tiny: Path) -> None:
    silent = [tuple(one.having(advantage=0.0) for one in group) for group in groups()]
    moved = []
    for advantage in (0.0, 1e-30):
        policy = policy_of(load_model(ModelSection(str(tiny)))[0].double(), UPDATE)
        policy.update(groups(), ALGORITHMS["dapo"])
        policy.update([tuple(one.having(advantage=advantage) for one in g) for g in silent], ALGORITHMS["dapo"])
        assert policy.optimizer_steps == 4
        moved.append(dict(policy.backend.model.state_dict()))
    for key in moved[0]:
        torch.testing.assert_close(moved[0][key], moved[1][key], atol=1e-9, rtol=0)


def test_several_ranks_need_deepspeed(tiny: Path) -> None:
    recipe = Recipe("r", 2, (DataSource("lab-arithmetic"),), {"dapo": {}}, ModelSection(str(tiny)))
    with pytest.raises(RecipeError, match="2 ranks were started; set update.deepspeed"):
        open_trainer(recipe.update, recipe.rollout, load_model(recipe.model)[0], recipe.optimizer_steps, Ranks(0, 2))


def test_learning_rate_by_hand() -> None:
    update = UpdateSection(warmup=4, schedule="linear")
    assert [lr_factor(update, step, 14) for step in (0, 3, 4, 9, 14, 20)] == [0.25, 1.0, 1.0, 0.5, 0.0, 0.0]
    assert lr_factor(replace(update, schedule="cosine"), 9, 14) == pytest.approx(0.5)
    assert lr_factor(replace(update, schedule="constant"), 400, 14) == 1.0


def test_a_model_whose_logits_are_scaled_is_refused(tiny: Path) -> None:
    model, _ = load_model(ModelSection(str(tiny)))
    check_head(model)
    model.lm_head.register_forward_hook(lambda module, inputs, output: output / 2)
    with pytest.raises(ModelError, match="not a plain linear map"):
        check_head(model)
