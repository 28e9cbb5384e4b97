"""Rewards: what a response earns for its text or its program, and the grader that applies them.

In: problems with gold answers, and their responses. Out: ``Verdict`` records. May use: sandbox, models and below.
A reward is a frozen dataclass of its hyperparameters, of one of two kinds, named in ``REWARDS``.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from archer.errors import UserError, did_you_mean
from archer.rewards.code import CodeReward
from archer.rewards.countdown import CountdownReward
from archer.rewards.math import MathReward
from archer.sandbox.base import Outcome, ProgramJob
from archer.types import Json, Problem, Verdict


@runtime_checkable
class TextReward(Protocol):
    """Judges what a response says. ``reward(problem, text)`` is ``judge(problem.gold, extract(text))``.

    ``rules`` is a version number, raised whenever the verdict on any answer could change.
    """

    rules: ClassVar[int]

    def __call__(self, problem: Problem, text: str) -> Verdict:
        """Judge one response in this process, without a time limit."""
        ...

    def extract(self, text: str) -> str | None:
        """Return the part of the response that counts, None if it holds no answer."""
        ...

    def is_plain(self, gold: Json, answer: str | None) -> bool:
        """Return whether :meth:`judge` is cheap and safe outside a worker."""
        ...

    def judge(self, gold: Json, answer: str | None) -> Verdict:
        """Judge an extracted answer. Pure: equal arguments are judged once."""
        ...

    def verdict(self, reason: str, answer: str = "") -> Verdict:
        """Return the verdict for a reason, which may be one of the grader's (``timeout``, ``memory``)."""
        ...


@runtime_checkable
class ProgramReward(Protocol):
    """Judges what a program does: makes a job to run, then judges its outcome outside the sandbox.

    ``rules`` is a version number, raised whenever the verdict on any program could change.
    """

    rules: ClassVar[int]

    def job(self, problem: Problem, text: str) -> ProgramJob | Verdict:
        """Return the job that tests the response's program, or the verdict on a response without one."""
        ...

    def judge(self, problem: Problem, outcome: Outcome) -> Verdict:
        """Judge what the program did."""
        ...


REWARDS: dict[str, TextReward | ProgramReward] = {
    "math": MathReward(),
    "countdown": CountdownReward(),
    "code": CodeReward(),
}


def find_reward(name: str) -> TextReward | ProgramReward:
    """Return the reward of that name. Raises :class:`~archer.errors.UserError` when there is none."""
    if name not in REWARDS:
        raise UserError(f"reward: unknown name {name!r}{did_you_mean(name, REWARDS)}")
    return REWARDS[name]
