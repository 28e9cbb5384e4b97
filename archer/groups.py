"""From problems to the groups a step trains on: sampling, grading, and which groups carry signal.

P groups, G samples a group.
"""

from __future__ import annotations

import math
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from archer.advantages import ADVANTAGES
from archer.batch import Group, response
from archer.engines.base import Engine
from archer.errors import UserError
from archer.grading import Grader
from archer.metrics import Averages
from archer.objectives import Algorithm
from archer.problems import Stream
from archer.recipe import Rollouts
from archer.rewards import ProgramReward, find_reward
from archer.rewards.code import draw_tests
from archer.rewards.shaping import overlong_penalty, repetition_ratio
from archer.types import Ask, Problem, Rollout, Verdict

Graded = tuple[Rollout, Verdict]


class Clock:
    """Seconds by part of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time spent inside to ``part``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start


@dataclass
class Harvest:
    """What sampling gave: every graded rollout, the groups kept, and where the problem stream stands."""

    position: int
    sampled: list[Graded] = field(default_factory=list)
    groups: list[list[Graded]] = field(default_factory=list)
    asked: int = 0
    with_signal: int = 0


@dataclass(frozen=True)
class Sampler:
    """Draws the groups of a step as ``algorithm.groups`` says; ``seed`` is the run's.

    ``tests`` bounds the tests of a program, drawn once for all samples of a problem's turn (0: all).
    """

    engine: Engine
    grader: Grader
    stream: Stream
    rollout: Rollouts
    algorithm: Algorithm
    seed: int
    tests: int = 0

    def harvest(self, position: int, clock: Clock) -> Harvest:
        """Return the groups of the step that starts at ``position`` of the problem stream.

        With "refill", rounds go on until the batch is full; a bound reached raises UserError.
        """
        wanted, harvest = self.rollout.prompts, Harvest(position)
        rounds = 1 + self.algorithm.refills if self.algorithm.groups == "refill" else 1
        for _ in range(rounds):
            self._round(harvest, wanted, clock)
            if len(harvest.groups) >= wanted or self.algorithm.groups != "refill":
                del harvest.groups[wanted:]
                return harvest
        raise UserError(
            f"dynamic sampling: after {rounds} rounds only {len(harvest.groups)} of {wanted} groups have both right "
            f"and wrong samples ({harvest.with_signal} of {harvest.asked} asked); make the problems harder or easier, "
            "raise rollout.group or the algorithm's refills, or train with groups: drop"
        )

    def _round(self, harvest: Harvest, wanted: int, clock: Clock) -> None:
        """Sample as many more groups as should fill the batch, at the share of groups with signal so far."""
        missing = wanted - len(harvest.groups)
        share = harvest.with_signal / harvest.asked if harvest.asked else 1.0
        count = min(wanted, math.ceil(missing / max(share, 1 / wanted)))
        problems = self._problems(harvest.position, count)
        samples = tuple(range(self.rollout.group))
        # The position makes a problem that comes again in a later epoch draw anew.
        asks = [
            Ask(problem, samples, (self.seed << 40) + harvest.position + place)
            for place, problem in enumerate(problems)
        ]
        with clock("generate"):
            started = self.grader.begin()
            rollouts = self.engine.generate(asks, self.rollout.sampling, started.put)
        with clock("reward"):
            graded = list(zip(rollouts, self.grader.grade(rollouts, started), strict=True))
        size = self.rollout.group
        groups = [graded[start : start + size] for start in range(0, len(graded), size)]
        signal = [group for group in groups if has_signal(group)]
        harvest.position += count
        harvest.asked += count
        harvest.with_signal += len(signal)
        harvest.sampled += graded
        harvest.groups += groups if self.algorithm.groups == "all" else signal

    def _problems(self, position: int, count: int) -> list[Problem]:
        """Take problems from the stream, programs' with the tests drawn for this turn."""
        problems = self.stream.take(position, count)
        for place, problem in enumerate(problems):
            if self.tests and isinstance(find_reward(problem.reward), ProgramReward):
                named = zlib.crc32(problem.id.encode())
                rng = np.random.default_rng([self.seed, position + place, named])
                problems[place] = replace(problem, gold=draw_tests(problem.gold, self.tests, rng))
        return problems


def has_signal(group: Sequence[Graded]) -> bool:
    """Say whether a group has both right and wrong samples: others have no group-relative advantage."""
    return len({verdict.correct for _, verdict in group}) == 2


def shaped_reward(graded: Graded, algorithm: Algorithm, max_tokens: int) -> float:
    """Return the reward that enters the advantage: the verdict's, less the overlong penalty."""
    rollout, verdict = graded
    if not algorithm.overlong_buffer:
        return verdict.reward
    buffer = max(1, round(algorithm.overlong_buffer * max_tokens))
    return verdict.reward + overlong_penalty(len(rollout.tokens), max_tokens, buffer)


def pack(groups: Sequence[Sequence[Graded]], algorithm: Algorithm, max_tokens: int) -> list[Group]:
    """Return the groups as the policy trains on them, each response with its advantage."""
    if not groups:
        return []
    reward_PG = torch.tensor(
        [[shaped_reward(graded, algorithm, max_tokens) for graded in group] for group in groups],
        dtype=torch.float64,
    )
    advantage_PG = ADVANTAGES[algorithm.advantage](reward_PG).tolist()
    return [
        tuple(
            response(rollout, advantage, used=rollout.stop == "end" or not algorithm.overlong_filter)
            for (rollout, _), advantage in zip(group, row, strict=True)
        )
        for group, row in zip(groups, advantage_PG, strict=True)
    ]


def describe(harvest: Harvest) -> dict[str, float]:
    """Return the step's metrics of what was sampled, before any filter: the curves of all algorithms compare."""
    averages = Averages()
    for rollout, verdict in harvest.sampled:
        averages.add("reward", verdict.reward)
        averages.add(f"reward/{rollout.problem.source}", verdict.reward)
        averages.add(f"verdict/{verdict.reason}", 1.0, 0.0)
        averages.add("length", len(rollout.tokens))
        averages.add("truncated", rollout.stop == "length")
        averages.add("repetition", repetition_ratio(rollout.text))
        averages.add("rollout_entropy", sum(rollout.entropies), len(rollout.entropies))
    total = len(harvest.sampled)
    for name in [name for name in averages.sums if name.startswith("verdict/")]:
        averages.counts[name] = total
    tokens = sum(len(rollout.tokens) for rollout, _ in harvest.sampled)
    return {
        **averages.result(),
        "signal": harvest.with_signal / harvest.asked,
        "groups": float(len(harvest.groups)),
        "responses": float(total),
        "tokens": float(tokens),
    }
