"""What an algorithm may ask for, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from archer.algorithms import ALGORITHMS, Algorithm
from archer.algorithms.advantages import process
from archer.algorithms.base import applied, extra_parameters, skipped
from archer.algorithms.needs import SUPPLIED, advantage_columns, check_needs, rollout_columns
from archer.algorithms.tokens import Tokens
from archer.errors import UserError

GRPO = ALGORITHMS["grpo"]


@dataclass(frozen=True)
class Asking:
    """An objective that reads what it is made with."""

    needs: frozenset[str]

    def __call__(self, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        return -tokens.advantage_BT * tokens.logp_BT, {}


def asking(*names: str, **parts: object) -> Algorithm:
    return replace(Algorithm(Asking(frozenset(names))), **parts)


def by_length(reward_PG: Tensor, length_PG: Tensor, power: float = 1.0) -> Tensor:
    return reward_PG * length_PG**power


def of_own(reward_PG: Tensor, *, margin_PGT: Tensor) -> Tensor:
    return reward_PG[..., None] * margin_PGT


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (asking("ref_logps"), "Asking: needs 'ref_logps', which nothing supplies (did you mean 'ref_logp'?)"),
        (asking("margin"), "Asking: needs 'margin', which nothing supplies"),
        (asking("entropy", columns={"entropy": len}), "columns: 'entropy' is a name of the project's own"),
        (asking(advantage="zscor"), "advantages: no advantage 'zscor' (did you mean 'zscore'?)"),
        (asking(aggregation="tokens"), "aggregations: no aggregation 'tokens' (did you mean 'token'?)"),
        (
            asking(advantage=lambda reward_PG, lengths_PG: reward_PG),
            "advantage: its parameters name 'lengths_PG', which nothing supplies (did you mean 'length_PG'?)",
        ),
        (
            asking(aggregation=lambda length_B, longest, entropy_B: length_B),
            "aggregation: its parameters name 'entropy_B', which nothing supplies",
        ),
    ],
)
def test_what_nothing_supplies_is_named(algorithm: Algorithm, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_needs(algorithm)
    assert message in str(caught.value)


def test_what_is_supplied_or_own_may_be_asked_for() -> None:
    check_needs(asking(*SUPPLIED, "logp", "advantage"))
    check_needs(asking("margin", columns={"margin": len}, advantage=of_own))
    check_needs(asking(advantage=by_length, aggregation=f"{__file__}:halved"))


def halved(length_B: Tensor, longest: int, group_B: Tensor) -> Tensor:
    return length_B / 2


def test_only_what_somebody_asks_for_is_made_of_rollouts() -> None:
    assert rollout_columns(GRPO) == frozenset()
    assert rollout_columns(replace(GRPO, advantage="process")) == {"token_score"}
    own = asking("reward", "ref_logp", columns={"margin": len, "unused": len}, advantage=of_own)
    assert rollout_columns(own) == {"reward", "margin"}
    assert advantage_columns(own) == {"margin"}


def test_a_parameter_with_a_default_is_a_hyperparameter() -> None:
    assert extra_parameters(by_length, 1) == ("length_PG",)
    assert extra_parameters(of_own, 1) == ("margin_PGT",)


def test_without_a_rule_nothing_is_skipped() -> None:
    assert not skipped(Asking(frozenset()), {"advantage": torch.zeros(3)})


def test_a_column_that_nobody_asked_for_is_not_there() -> None:
    ones = torch.ones(1, 2)
    tokens = Tokens(ones, ones, None, ones, ones.bool(), columns={"reward": ones})
    assert tokens["reward"] is tokens["advantage"] is ones
    with pytest.raises(KeyError, match="no column 'rewards' here .did you mean 'reward'.*name it in the objective"):
        tokens["rewards"]
    with pytest.raises(KeyError, match="no column 'entropy' here"):
        tokens["entropy"]


def test_process_rewards_by_hand() -> None:
    # Steps of 1 and 3 in one response, 2 in the other: mean 2, deviation 1. A score of 0 ends no step.
    score_PGT = torch.tensor([[[1.0, 0.0, 3.0], [0.0, 2.0, 0.0]]], dtype=torch.float64)
    mask_PGT = torch.tensor([[[True, True, True], [True, True, False]]])
    found = process(torch.zeros(1, 2), score_PGT, mask_PGT)
    expected = torch.tensor([[[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda reward_PG: None, "mine: returned None, expected a tensor"),
        (lambda reward_PG: reward_PG / 0 * 0, "mine: returned values that are not finite"),
        (lambda reward_PG: {}[reward_PG.dim()], r"mine: raised KeyError\(.*test_needs.py, line"),
    ],
)
def test_a_function_that_fails_is_named(made: Callable[..., Tensor], message: str) -> None:
    with pytest.raises(UserError, match=message):
        applied("mine", made, torch.ones(2, 2))


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(UserError, match="advantages: 3: expected a function, found 3"):
        check_needs(replace(GRPO, advantage=3))
