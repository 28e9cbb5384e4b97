"""Rewards: what a response earns for its text or its program, and the grader that applies them.

In: problems with gold answers, and their responses. Out: ``Verdict`` records. May use: sandbox, models and below.
A reward is a frozen dataclass of its options, named in ``REWARDS``; :mod:`archer.rewards.base` says what it offers.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from functools import cache

from archer.parts import given_names
from archer.recipe.rewards import reward_entries
from archer.rewards.base import AnyReward, ProgramReward, RewardSum, TextReward, WeightedReward
from archer.rewards.choice import ChoiceReward
from archer.rewards.code import CodeReward
from archer.rewards.countdown import CountdownReward
from archer.rewards.exact import ExactReward
from archer.rewards.finding import make_reward
from archer.rewards.format import FormatReward
from archer.rewards.judge import JudgeReward
from archer.rewards.last_number import LastNumberReward
from archer.rewards.length import LengthReward
from archer.rewards.math import MathReward

__all__ = ["REWARDS", "ProgramReward", "RewardSum", "TextReward", "find_reward", "reward_parts", "runs_programs"]

REWARDS: dict[str, AnyReward] = {
    "math": MathReward(),
    "countdown": CountdownReward(),
    "code": CodeReward(),
    "choice": ChoiceReward(),
    "last_number": LastNumberReward(),
    "exact": ExactReward(),
    "format": FormatReward(),
    "length": LengthReward(),
    "judge": JudgeReward(),
}


def find_reward(spec: str) -> AnyReward | RewardSum:
    """Return the reward, or the sum, of a spec (:mod:`archer.recipe.rewards`): the same object for the same spec.

    Raises :class:`~archer.errors.UserError` for an unknown name, an unknown option and a value of the wrong type.
    """
    given = given_names("rewards")
    if spec in REWARDS and spec not in dict(given):  # `find_part` refuses a given one of a shipped name
        return REWARDS[spec]
    return _made(spec, os.getcwd(), given)  # ./mine.py is one of the working directory


def reward_parts(spec: str) -> tuple[WeightedReward, ...]:
    """Return the rewards of a spec, one or several. Raises as :func:`find_reward`."""
    found = find_reward(spec)
    if isinstance(found, RewardSum):
        return found.parts
    [entry] = reward_entries(spec)
    return (WeightedReward(spec, entry.label, 1.0, found),)


def runs_programs(spec: str) -> bool:
    """Whether any reward of a spec runs programs in a sandbox. Raises as :func:`find_reward`."""
    return any(isinstance(part.reward, ProgramReward) for part in reward_parts(spec))


@cache
def _made(spec: str, folder: str, given: Hashable) -> AnyReward | RewardSum:
    entries = reward_entries(spec)
    parts = tuple(
        WeightedReward(one.spec, one.label, one.weight, make_reward(one.name, one.options, REWARDS)) for one in entries
    )
    [alone] = parts if len(parts) == 1 and parts[0].weight == 1.0 else [None]
    return alone.reward if alone else RewardSum(parts)
