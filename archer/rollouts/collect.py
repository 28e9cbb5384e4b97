"""From problems to the groups a step trains on: sampling, grading, and which groups carry signal.

P groups, G samples a group.
"""

from __future__ import annotations

import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from archer.algorithms import Algorithm
from archer.algorithms.advantages import ADVANTAGES
from archer.algorithms.shaping import overlong_penalty, repetition_ratio
from archer.distributed import Ranks
from archer.engines.base import Engine
from archer.errors import UserError
from archer.problems.streams import ProblemStream
from archer.recipe.sections import RolloutSection
from archer.rewards import ProgramReward, find_reward
from archer.rewards.code import draw_tests
from archer.rewards.grading import Grader
from archer.rollouts.dynamic_sampling import Graded, GradedGroup, GroupSampler, RankQuota, StreamCursor, has_signal
from archer.system import region
from archer.trainer.batch import Group, to_sample
from archer.trainer.metrics import Averages
from archer.types import Problem, Request


class StepClock:
    """Seconds by part of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time spent inside to ``part``."""
        start = time.perf_counter()
        try:
            with region(part):
                yield
        finally:
            self.seconds[part] += time.perf_counter() - start


@dataclass
class RolloutBatch:
    """What sampling gave: every graded rollout, the groups kept, and where the problem stream stands."""

    cursor: StreamCursor
    sampled: list[Graded] = field(default_factory=list)
    groups: list[list[Graded]] = field(default_factory=list)
    asked: int = 0
    with_signal: int = 0


@dataclass(frozen=True)
class StepSampler:
    """Draws the groups of a step as ``algorithm.groups`` says; ``seed`` is the run's.

    ``tests`` bounds the tests of a program, drawn once for all samples of a problem's turn (0: all).
    """

    engine: Engine
    grader: Grader
    stream: ProblemStream
    rollout: RolloutSection
    algorithm: Algorithm
    seed: int
    tests: int = 0
    ranks: Ranks = field(default_factory=Ranks)

    def collect(self, queue: StreamCursor, clock: StepClock) -> RolloutBatch:
        """Return the groups of the step that starts at ``queue``, sampled by all ranks."""
        return self.merge(queue, self.gather(self.sample(queue, clock), clock))

    def sample(self, queue: StreamCursor, clock: StepClock) -> list[GradedGroup]:
        """Sample and grade this rank's share; no other rank is waited for."""
        with GroupSampler(self._share(), lambda place: self._ask(queue, place), self.grader) as lane:
            with clock("generate"):
                self.engine.generate(lane.first(), self.rollout.sampling, lane.finished, lane.more)
            with clock("reward"):
                return lane.graded_groups()

    def _share(self) -> RankQuota:
        wanted, rank, world = self.rollout.prompts, self.ranks.rank, self.ranks.world
        own = wanted // world + (rank < wanted % world)
        rounds = 1 + self.algorithm.max_resample_rounds if self.algorithm.group_filter == "resample" else 1
        return RankQuota(own, own * rounds, rank, world)

    def _ask(self, queue: StreamCursor, place: int) -> Request:
        # The position makes a problem that comes again in a later epoch draw anew.
        seed = (self.seed << 40) + queue.at(place)
        return Request(self.problem(queue, place), tuple(range(self.rollout.samples_per_prompt)), seed)

    def gather(self, cuts: list[GradedGroup], clock: StepClock) -> list[GradedGroup]:
        """Return every rank's groups, in the order of the problem stream."""
        with clock("gather"):
            everyone = self.ranks.gather("gathering the graded groups", cuts)
        return sorted((cut for part in everyone for cut in part), key=lambda cut: cut.place)

    def merge(self, queue: StreamCursor, found: Sequence[GradedGroup]) -> RolloutBatch:
        """Return the groups that train, and all that was sampled for them.

        With "resample" a group without signal was replaced by the next problem's; where that did not fill the batch
        within its bound, raises UserError.
        """
        harvest = RolloutBatch(queue.after([cut.place for cut in found]))
        for cut in found:
            group = cut.graded(self.problem(queue, cut.place))
            harvest.sampled += group
            harvest.asked += 1
            harvest.with_signal += has_signal(group)
            if self.algorithm.group_filter == "none" or has_signal(group):
                harvest.groups.append(group)
        if self.algorithm.group_filter == "resample" and len(harvest.groups) < self.rollout.prompts:
            raise UserError(
                f"dynamic sampling: of {harvest.asked} groups asked only {harvest.with_signal} have both right and "
                f"wrong samples, {self.rollout.prompts} are wanted; make the problems harder or easier, raise "
                "rollout.samples_per_prompt or the algorithm's max_resample_rounds, or train with group_filter: drop"
            )
        return harvest

    def problem(self, queue: StreamCursor, place: int) -> Problem:
        """Return a problem of the step, a program's with the tests drawn for this turn; a new object each time."""
        position = queue.at(place)
        problem = replace(self.stream.take(position, 1)[0])
        if self.tests and isinstance(find_reward(problem.reward), ProgramReward):
            rng = np.random.default_rng([self.seed, position, zlib.crc32(problem.id.encode())])
            return replace(problem, gold=draw_tests(problem.gold, self.tests, rng))
        return problem


def shaped_reward(graded: Graded, algorithm: Algorithm, max_tokens: int) -> float:
    """Return the reward that enters the advantage: the verdict's, less the overlong penalty."""
    rollout, verdict = graded
    if not algorithm.overlong_buffer:
        return verdict.reward
    buffer = max(1, round(algorithm.overlong_buffer * max_tokens))
    return verdict.reward + overlong_penalty(len(rollout.tokens), max_tokens, buffer)


def assign_advantages(groups: Sequence[Sequence[Graded]], algorithm: Algorithm, max_tokens: int) -> list[Group]:
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
            to_sample(rollout, advantage, in_loss=rollout.stop == "end" or not algorithm.overlong_filter)
            for (rollout, _), advantage in zip(group, row, strict=True)
        )
        for group, row in zip(groups, advantage_PG, strict=True)
    ]


def rollout_metrics(harvest: RolloutBatch, version: int) -> dict[str, float]:
    """Return the step's metrics of what was sampled, before any filter: the curves of all algorithms compare.

    ``version`` is that of the weights about to be trained; ``staleness`` is how many steps older the samplers' were.
    """
    averages = Averages()
    for rollout, verdict in harvest.sampled:
        averages.add("reward", verdict.reward)
        averages.add(f"reward/{rollout.problem.source}", verdict.reward)
        averages.add(f"verdict/{verdict.reason}", 1.0, 0.0)
        averages.add("length", len(rollout.tokens))
        averages.add("staleness", version - rollout.version)
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
