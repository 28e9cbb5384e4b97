"""A grader with all it needs: worker processes, and a sandbox where a reward runs programs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace

from archer.errors import MissingError
from archer.recipe.sections import RewardSection
from archer.rewards import reward_parts, runs_programs
from archer.rewards.grading import Grader
from archer.sandbox import Sandbox, open_executor
from archer.sandbox.base import Executor


def open_grader(section: RewardSection, rewards: Iterable[str], unisolated: bool, stack: ExitStack) -> Grader:
    """Return a grader for these rewards; it closes with ``stack``, and its sandbox too.

    ``unisolated`` accepts a sandbox that isolates nothing. Raises MissingError where the recipe's sandbox cannot start
    and that was not accepted, UserError for an unknown reward, and what the rewards' own ``check`` raises.
    """
    rewards = list(rewards)
    parts = {id(part.reward): part.reward for spec in rewards for part in reward_parts(spec)}
    for reward in parts.values():
        getattr(reward, "check", _nothing)()
    executor = open_sandbox(section, rewards, unisolated, stack)
    grader = stack.enter_context(Grader(section.workers, section.seconds, executor))
    grader.counted += [reward for reward in parts.values() if hasattr(reward, "usage")]
    grader.usage()  # begins anew: an earlier run of this process may have used the same objects
    return grader


def open_sandbox(section: RewardSection, rewards: Iterable[str], unisolated: bool, stack: ExitStack) -> Executor | None:
    """Start the sandbox if any of the rewards runs programs; it closes with ``stack``.

    Raises as :func:`open_grader`.
    """
    if not any(runs_programs(spec) for spec in rewards):
        return None
    sandbox = Sandbox(section.sandbox, section.workers, section.docker_hosts, unisolated)
    try:
        executor = open_executor(sandbox)
    except MissingError:
        if not unisolated:
            raise
        executor = open_executor(replace(sandbox, executor="process"))
    stack.callback(executor.close)
    return executor


def _nothing() -> None:
    """What a reward without a check of its own has to check."""
