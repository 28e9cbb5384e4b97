"""What every objective must do: skip only what cannot train, hold to the reference what it says, divide all tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from archer.algorithms import ALGORITHMS, Objective
from archer.algorithms.archer import Archer
from archer.algorithms.base import metric_masks, skipped
from archer.algorithms.grpo import Grpo
from archer.algorithms.needs import check_needs
from archer.algorithms.tokens import Tokens

OBJECTIVES = {name: row.objective for name, row in ALGORITHMS.items()} | {
    "archer without KL": Archer(knowledge_kl=0.0),
    "archer with KL on reasoning tokens": Archer(reasoning_kl=0.01, knowledge_kl=0.0),
    "grpo without KL": Grpo(kl_weight=0.0),
}


def tokens_with(objective: Objective, advantage: float) -> Tokens:
    """Two ragged responses with the columns that the objective asks for; log-probs carry a gradient."""
    make = torch.Generator().manual_seed(0)
    logp_BT, near_BT, entropy_BT, ref_BT = (torch.rand(2, 9, generator=make, dtype=torch.float64) for _ in range(4))
    mask_BT = torch.arange(9) < torch.tensor([[9], [4]])
    needs = objective.needs
    return Tokens(
        logp_BT=(-logp_BT - 0.1).requires_grad_(),
        old_logp_BT=-logp_BT - near_BT,
        entropy_BT=entropy_BT if needs & {"entropy", "policy_entropy"} else None,
        advantage_BT=torch.full((2, 9), advantage, dtype=torch.float64),
        mask_BT=mask_BT,
        ref_logp_BT=-ref_BT if "ref_logp" in needs else None,
        step_entropy_N=entropy_BT[mask_BT] if "step_entropy" in needs else None,
    )


def gradient(objective: Objective, tokens: Tokens) -> Tensor:
    loss_BT, _ = objective(tokens)
    (gradient_BT,) = torch.autograd.grad((loss_BT * tokens.mask_BT).sum(), tokens.logp_BT)
    return gradient_BT


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_is_skipped_has_no_gradient(name: str) -> None:
    objective = OBJECTIVES[name]
    for advantage in (0.0, 1.0, -0.5):
        if skipped(objective, {"advantage": torch.full((9,), advantage)}):
            assert torch.equal(gradient(objective, tokens_with(objective, advantage)), torch.zeros(2, 9))
    assert not skipped(objective, {"advantage": torch.tensor([0.0, 0.0, 0.1])})
    assert skipped(objective, {"advantage": torch.zeros(3)}) == ("ref_logp" not in objective.needs)


@pytest.mark.parametrize("name", [name for name, one in OBJECTIVES.items() if "ref_logp" in one.needs])
def test_the_reference_matters_where_the_objective_reads_it_alone(name: str) -> None:
    objective = OBJECTIVES[name]
    tokens = tokens_with(objective, 0.5)
    rule = getattr(objective, "reads_reference", None)
    held_BT = tokens.mask_BT if rule is None else rule(tokens)
    ref_BT = (tokens.logp_BT.detach() + 1.0).requires_grad_()
    loss_BT, _ = objective(replace(tokens, ref_logp_BT=ref_BT))
    (slope_BT,) = torch.autograd.grad((loss_BT * tokens.mask_BT).sum(), ref_BT)
    if "policy_entropy" in objective.needs:  # which tokens it will be is not known before the forward pass
        assert torch.equal(held_BT, tokens.mask_BT)
    else:
        assert torch.equal(held_BT, slope_BT != 0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_named_kinds_divide_the_tokens(name: str) -> None:
    tokens = tokens_with(OBJECTIVES[name], 0.5)
    kinds = metric_masks(OBJECTIVES[name], tokens)
    assert set(kinds) == ({"reasoning", "knowledge"} if "archer" in name else set())
    if kinds:
        assert torch.equal(kinds["reasoning"] ^ kinds["knowledge"], tokens.mask_BT)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_shipped_algorithms_ask_for_what_there_is(name: str) -> None:
    check_needs(ALGORITHMS[name])
