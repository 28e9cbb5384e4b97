"""An algorithm from outside trains: its own column, an entropy bonus, statistics of a step; gradients written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from archer.algorithms import Algorithm
from archer.algorithms.tokens import Tokens
from archer.distributed import Ranks
from archer.models.loading import load_model
from archer.recipe.sections import ModelSection, UpdateSection
from archer.trainer.batch import Group, TrainSample
from archer.trainer.torch_backend import TorchBackend
from archer.trainer.trainer import Trainer

UPDATE = UpdateSection(lr=1e-2, warmup=1, mini_batch=2, micro_batch_tokens=10_000, weight_decay=0.0)
BUDGETS = (10_000, 70, 1)
TEMPERATURE = 0.8


@dataclass(frozen=True)
class Bonus:
    """-margin r A - weight H: a column of its own, and an entropy bonus with its gradient."""

    weight: float = 0.1
    needs = frozenset({"entropy_gradient", "margin"})

    def __call__(self, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        ratio_BT = (tokens.logp_BT - tokens.old_logp_BT).exp()
        entropy_BT = tokens["policy_entropy"]
        return -tokens["margin"] * ratio_BT * tokens.advantage_BT - self.weight * entropy_BT, {"bonus": entropy_BT}


@dataclass(frozen=True)
class Whitened:
    """-log pi (R - mean of log pi over the group, in units of the step's deviation of log pi)."""

    needs = frozenset({"group", "reward"})

    def over_step(self, tokens: Tokens) -> Mapping[str, Tensor]:
        """The group's mean log-prob of each response, (B, 1), and the step's deviation, ()."""
        logp_B = (tokens.logp_BT * tokens.mask_BT).sum(1)
        group_B, length_B = tokens["group"][:, 0], tokens.mask_BT.sum(1)
        zeros = torch.zeros(int(group_B.max()) + 1, dtype=logp_B.dtype)
        sums, counts = (zeros.index_add(0, group_B, one.to(logp_B)) for one in (logp_B, length_B))
        return {"mean": (sums / counts)[group_B][:, None], "deviation": tokens.logp_BT[tokens.mask_BT].std()}

    def __call__(self, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        return -tokens.logp_BT * (tokens["reward"] - tokens["mean"]) / tokens["deviation"], {}


def groups(advantages: tuple[float, ...] = (1.0, -0.7, 0.0)) -> list[Group]:
    """Two groups of three ragged responses with made-up columns."""
    make = torch.Generator().manual_seed(0)
    made = []
    for index in range(6):
        length = 3 + 4 * index
        tokens, prompt = torch.randint(5, 300, (length,), generator=make), tuple(range(40, 44 + index // 3))
        old, margin = -5.8 - torch.rand(length, generator=make) * 0.2, torch.rand(length, generator=make)
        columns = {"old_logp": old, "margin": margin, "reward": float(index % 2), "advantage": advantages[index % 3]}
        made.append(TrainSample.of(prompt, tokens, **columns))
    return [tuple(made[:3]), tuple(made[3:])]


def exact_model(tiny: Path) -> PreTrainedModel:
    """The tiny model in float64 throughout: its norms work in float32 otherwise."""
    model = load_model(ModelSection(str(tiny)))[0].double()
    for norm in model.modules():
        if type(norm).__name__.endswith("RMSNorm"):
            norm.forward = lambda x, own=norm: (
                own.weight * x * (x.square().mean(-1, True) + own.variance_epsilon).rsqrt()
            )
    return model


def gradients(tiny: Path, algorithm: Algorithm, update: UpdateSection) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The gradient of the one optimizer step, by parameter, in float64, and the metrics."""
    model = exact_model(tiny)
    backend = TorchBackend(model, update, TEMPERATURE)
    found: dict[str, Tensor] = {}

    def step(lr: float) -> float:
        found.update({name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None})
        return 1.0

    backend.step = step  # type: ignore[method-assign]
    metrics = Trainer(backend, update, 10, 32, Ranks()).update(groups(), algorithm)
    return found, metrics


def by_hand(tiny: Path, algorithm: Algorithm, weight: float) -> dict[str, Tensor]:
    """The same from whole logits, one response after the other."""
    model = exact_model(tiny)
    flat = [sample for group in groups() for sample in group]
    total = sum(len(sample.tokens) for sample in flat)
    for sample in flat:
        ids = torch.tensor([*sample.prompt, *sample.tokens])
        logits_TV = model(input_ids=ids[None]).logits[0, len(sample.prompt) - 1 : -1] / TEMPERATURE
        logp_TV = logits_TV.log_softmax(-1)
        entropy_T = -(logp_TV.exp() * logp_TV).sum(-1)
        logp_T = logp_TV.gather(1, torch.tensor(sample.tokens).long()[:, None])[:, 0]
        loss_T = -sample["margin"] * (logp_T - sample["old_logp"]).exp() * sample["advantage"] - weight * entropy_T
        (loss_T.sum() / total).backward()
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_entropy_bonus_and_an_own_column_have_the_gradient_written_by_hand(tiny: Path, checkpointing: bool) -> None:
    algorithm = Algorithm(Bonus())
    expected = by_hand(tiny, algorithm, 0.1)
    for budget in BUDGETS:
        update = replace(UPDATE, micro_batch_tokens=budget, checkpointing=checkpointing)
        found, metrics = gradients(tiny, algorithm, update)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected[name], atol=1e-9, rtol=0)
        assert 0 < metrics["bonus"] < 5.85  # log of the vocabulary of 344


def test_without_the_need_the_entropy_is_a_number(tiny: Path) -> None:
    @dataclass(frozen=True)
    class Still(Bonus):
        needs = frozenset({"policy_entropy", "margin"})

    expected = by_hand(tiny, Algorithm(Still()), 0.0)
    for name, gradient in gradients(tiny, Algorithm(Still()), UPDATE)[0].items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-9, rtol=0)


def test_a_statistic_of_the_step_does_not_depend_on_micro_batches(tiny: Path) -> None:
    whole, metrics = gradients(tiny, Algorithm(Whitened()), UPDATE)
    assert max(float(gradient.abs().max()) for gradient in whole.values()) > 1e-3
    for budget in BUDGETS[1:]:
        cut, same = gradients(tiny, Algorithm(Whitened()), replace(UPDATE, micro_batch_tokens=budget))
        assert same == pytest.approx(metrics, abs=1e-9)
        for name, gradient in cut.items():
            torch.testing.assert_close(gradient, whole[name], atol=1e-9, rtol=0)


def test_an_aggregation_reads_signal_and_group(tiny: Path) -> None:
    seen: list[tuple[list[bool], list[int]]] = []

    def watching(length_B: Tensor, longest: int, signal_B: Tensor, group_B: Tensor) -> Tensor:
        seen.append((signal_B.tolist(), group_B.tolist()))
        return length_B.gt(0) / length_B.sum()

    plain, _ = gradients(tiny, Algorithm(Bonus()), UPDATE)
    same, _ = gradients(tiny, Algorithm(Bonus(), aggregation=watching), UPDATE)
    assert seen == [([True, True, False] * 2, [0, 0, 0, 1, 1, 1])]
    for name, gradient in same.items():
        torch.testing.assert_close(gradient, plain[name], atol=1e-12, rtol=0)


def test_what_every_objective_gets_may_be_named_and_holds_importance_weights(tiny: Path) -> None:
    seen = []

    @dataclass(frozen=True)
    class Named:
        needs = frozenset({"logp", "old_logp", "advantage", "mask"})

        def __call__(self, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
            seen.append((tokens["advantage"], tokens.advantage_BT))
            return -tokens["logp"] * tokens["advantage"], {}

    weighed = [tuple(sample.having(correction=0.5) for sample in group) for group in groups()]
    backend = TorchBackend(load_model(ModelSection(str(tiny)))[0], UPDATE, TEMPERATURE)
    Trainer(backend, UPDATE, 10, 24, Ranks()).update(weighed, Algorithm(Named()))
    assert seen
    assert all(named is given for named, given in seen)


def test_metrics_are_split_by_the_kinds_that_an_objective_names(tiny: Path) -> None:
    @dataclass(frozen=True)
    class Split(Bonus):
        def masks(self, tokens: Tokens) -> Mapping[str, Tensor]:
            return {"wide": tokens["margin"] > 0.5}

    _, plain = gradients(tiny, Algorithm(Bonus()), UPDATE)
    _, split = gradients(tiny, Algorithm(Split()), UPDATE)
    assert {name for name in plain if "_" in name} == {"gradient_norm"}
    assert split.keys() - plain.keys() == {"bonus_wide", "entropy_wide", "ratio_wide"}


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"column 'margin' of shape \(2,\) for 3 tokens"):
        TrainSample.of((1,), (2, 3, 4), margin=[0.5, 0.5])
