"""What every advantage must do: no pull within a group on average, none without a difference, the same in any order."""

from __future__ import annotations

import pytest
import torch

from archer.algorithms.advantages import ADVANTAGES
from archer.algorithms.base import extra_parameters

REWARD_PG = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, -0.5], [0.25, 0.75, 0.5, 0.5]], dtype=torch.float64)

OF_REWARDS = [name for name, function in ADVANTAGES.items() if not extra_parameters(function, 1)]


@pytest.mark.parametrize("name", OF_REWARDS)
def test_a_group_s_advantages_sum_to_zero_and_order_as_its_rewards(name: str) -> None:
    advantage_PG = ADVANTAGES[name](REWARD_PG)
    torch.testing.assert_close(advantage_PG.sum(1), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    for reward_G, advantage_G in zip(REWARD_PG, advantage_PG, strict=True):
        for left in range(4):
            for right in range(4):
                assert (reward_G[left] < reward_G[right]) == (advantage_G[left] < advantage_G[right])


@pytest.mark.parametrize("name", OF_REWARDS)
def test_equal_rewards_have_no_advantage(name: str) -> None:
    for value in (0.0, 1.0, 0.5):  # powers of two, whose mean is exact
        assert torch.equal(ADVANTAGES[name](torch.full((2, 4), value)), torch.zeros(2, 4))


@pytest.mark.parametrize("name", OF_REWARDS)
def test_neither_other_groups_nor_order_matter(name: str) -> None:
    whole_PG = ADVANTAGES[name](REWARD_PG)
    for row in range(3):
        torch.testing.assert_close(ADVANTAGES[name](REWARD_PG[row : row + 1]), whole_PG[row : row + 1])
    turned_PG = ADVANTAGES[name](REWARD_PG.flip(1)).flip(1)
    torch.testing.assert_close(turned_PG, whole_PG, atol=1e-12, rtol=0)
