"""The suite over every shipped algorithm, and what it finds in broken ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from archer.algorithms import ALGORITHMS, Algorithm
from archer.algorithms.base import Columns, clipped_surrogate, no_advantage
from archer.algorithms.tokens import Tokens
from archer.errors import UserError
from archer.testing import check_algorithm


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_shipped_algorithm_passes(name: str) -> None:
    check_algorithm(ALGORITHMS[name])


@dataclass(frozen=True)
class Broken:
    """A clipped surrogate with one fault."""

    fault: str = ""
    needs: frozenset[str] = frozenset()

    def __call__(self, tokens: Tokens) -> tuple[Tensor, Columns]:
        surrogate_BT, clipped_BT = clipped_surrogate(tokens, 0.2, 0.2)
        if self.fault == "averages":
            surrogate_BT = surrogate_BT / tokens.mask_BT.sum()
        if self.fault == "padding":
            surrogate_BT = surrogate_BT * surrogate_BT.shape[1]
        if self.fault == "bonus":
            surrogate_BT = surrogate_BT + 0.1 * tokens["policy_entropy"]
        if self.fault == "unbounded":
            surrogate_BT = (tokens.logp_BT - tokens.old_logp_BT).exp() * tokens.advantage_BT
        if self.fault == "order":
            surrogate_BT = surrogate_BT * torch.arange(1, len(surrogate_BT) + 1)[:, None]
        return -surrogate_BT, {"clip": clipped_BT}

    def skips(self, columns: Mapping[str, Tensor]) -> bool:
        return no_advantage(columns)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("averages", "otherwise where each response is a micro-batch"),
        ("padding", "otherwise where"),
        ("order", "otherwise where"),
        ("unbounded", "1000 nats from that of the rollout is no longer finite: training diverged"),
    ],
)
def test_a_broken_loss_is_found(fault: str, message: str) -> None:
    check_algorithm(Algorithm(Broken()))
    with pytest.raises(AssertionError, match=message):
        check_algorithm(Algorithm(Broken(fault)))


def test_a_rule_that_skips_what_trains_is_found() -> None:
    bonus = Broken("bonus", needs=frozenset({"entropy_gradient"}))
    with pytest.raises(AssertionError, match="Broken.skips: a response that it skips moves the weights by"):
        check_algorithm(Algorithm(bonus))


def test_an_advantage_that_depends_on_the_order_of_groups_is_found() -> None:
    def ranked(reward_PG: Tensor) -> Tensor:
        return reward_PG * torch.arange(1, len(reward_PG) + 1)[:, None]

    with pytest.raises(AssertionError, match="the groups come in another order"):
        check_algorithm(replace(ALGORITHMS["grpo"], advantage=ranked))


def test_what_nothing_supplies_is_refused() -> None:
    with pytest.raises(UserError, match="Broken: needs 'ref_logps', which nothing supplies \\(did you mean 'ref_logp'"):
        check_algorithm(Algorithm(Broken(needs=frozenset({"ref_logps"}))))
