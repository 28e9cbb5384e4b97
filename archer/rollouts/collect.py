"""From problems to the groups that a step trains on: sampling, grading, filtering, advantages.

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
from archer.engines.queue import closed_after, requests_for
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
    """Measures the seconds of each part of a step; each part is a profiling region too."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time spent within the context to ``part``."""
        start = time.perf_counter()
        try:
            with region(part):
                yield
        finally:
            self.seconds[part] += time.perf_counter() - start


@dataclass
class RolloutBatch:
    """A step's rollouts.

    - ``cursor``: where the next step starts in the problem stream
    - ``sampled``: every graded rollout
    - ``groups``: the groups that the group filter kept
    - ``asked``, ``with_signal``: number of groups sampled, and of those whose rewards differ
    """

    cursor: StreamCursor
    sampled: list[Graded] = field(default_factory=list)
    groups: list[list[Graded]] = field(default_factory=list)
    asked: int = 0
    with_signal: int = 0


@dataclass(frozen=True)
class StepSampler:
    """Samples and grades the groups of a step; ``algorithm.group_filter`` decides which groups train.

    - ``seed``: the run's seed
    - ``tests``: most tests per program (0: all), drawn once for all samples of a group
    """

    engine: Engine
    grader: Grader
    stream: ProblemStream
    rollout: RolloutSection
    algorithm: Algorithm
    seed: int
    tests: int = 0
    ranks: Ranks = field(default_factory=Ranks)

    def collect(self, cursor: StreamCursor, clock: StepClock) -> RolloutBatch:
        """Return the batch of the step that starts at ``cursor``, sampled by all ranks."""
        return self.merge(cursor, self.gather(self.sample(cursor, clock), clock))

    def sample(self, cursor: StreamCursor, clock: StepClock) -> list[GradedGroup]:
        """Sample and grade this rank's share of the groups, without waiting for other ranks."""
        with GroupSampler(self._quota(), lambda place: self._ask(cursor, place), self.grader) as group_sampler:
            rollouts = self.engine.generate(group_sampler, self.rollout.sampling)
            with clock("generate"), closed_after(rollouts):
                for rollout in rollouts:
                    group_sampler.put(rollout)
            with clock("reward"):
                return group_sampler.graded_groups()

    def _quota(self) -> RankQuota:
        wanted, rank, world = self.rollout.prompts, self.ranks.rank, self.ranks.world
        own = wanted // world + (rank < wanted % world)
        rounds = 1 + self.algorithm.max_resample_rounds if self.algorithm.group_filter == "resample" else 1
        return RankQuota(own, own * rounds, rank, world)

    def _ask(self, cursor: StreamCursor, place: int) -> list[Request]:
        # With the position in the seed, a problem gets new samples in a later epoch.
        seed = (self.seed << 40) + cursor.at(place)
        return requests_for(self.problem(cursor, place), range(self.rollout.samples_per_prompt), seed)

    def gather(self, groups: list[GradedGroup], clock: StepClock) -> list[GradedGroup]:
        """Return every rank's groups, in the order of the problem stream."""
        with clock("gather"):
            everyone = self.ranks.gather("gathering the graded groups", groups)
        return sorted(
            (graded_group for part in everyone for graded_group in part), key=lambda graded_group: graded_group.place
        )

    def merge(self, cursor: StreamCursor, graded_groups: Sequence[GradedGroup]) -> RolloutBatch:
        """Return the batch of the graded groups of all ranks: filtered groups, all rollouts, and the next cursor.

        Raises UserError if ``group_filter`` is "resample" and its rounds did not fill the batch.
        """
        batch = RolloutBatch(cursor.after([graded_group.place for graded_group in graded_groups]))
        for graded_group in graded_groups:
            group = graded_group.graded(self.problem(cursor, graded_group.place))
            batch.sampled += group
            batch.asked += 1
            batch.with_signal += has_signal(group)
            if self.algorithm.group_filter == "none" or has_signal(group):
                batch.groups.append(group)
        if self.algorithm.group_filter == "resample" and len(batch.groups) < self.rollout.prompts:
            raise UserError(
                f"dynamic sampling: of {batch.asked} groups asked only {batch.with_signal} have samples with "
                f"different rewards, {self.rollout.prompts} are wanted; make the problems harder or easier, raise "
                "rollout.samples_per_prompt or the algorithm's max_resample_rounds, or train with group_filter: drop"
            )
        return batch

    def problem(self, cursor: StreamCursor, place: int) -> Problem:
        """Return the step's problem at ``place`` as a new object; a program's with the tests drawn for this group."""
        position = cursor.at(place)
        problem = replace(self.stream.take(position, 1)[0])
        if self.tests and isinstance(find_reward(problem.reward), ProgramReward):
            rng = np.random.default_rng([self.seed, position, zlib.crc32(problem.id.encode())])
            return replace(problem, gold=draw_tests(problem.gold, self.tests, rng))
        return problem


def shaped_reward(graded: Graded, algorithm: Algorithm, max_tokens: int) -> float:
    """Return the reward that enters the advantage: the verdict's plus the overlong penalty (0 to -1)."""
    rollout, verdict = graded
    if not algorithm.overlong_buffer:
        return verdict.score
    buffer = max(1, round(algorithm.overlong_buffer * max_tokens))
    return verdict.score + overlong_penalty(len(rollout.tokens), max_tokens, buffer)


def assign_advantages(groups: Sequence[Sequence[Graded]], algorithm: Algorithm, max_tokens: int) -> list[Group]:
    """Return the groups as training samples, each with its group-relative advantage."""
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


def rollout_metrics(batch: RolloutBatch, version: int) -> dict[str, float]:
    """Return the metrics of all sampled rollouts, before any filter, so that algorithms can be compared.

    ``version`` counts the training steps behind the weights to be trained; the metric ``staleness`` is how many steps
    older the sampling weights were.
    """
    averages = Averages()
    for rollout, verdict in batch.sampled:
        averages.add("reward", verdict.score)
        averages.add(f"reward/{rollout.problem.source}", verdict.score)
        averages.add(f"verdict/{verdict.reason}", 1.0, 0.0)
        averages.add("length", len(rollout.tokens))
        averages.add("staleness", version - rollout.version)
        averages.add("truncated", rollout.stop == "length")
        averages.add("repetition", repetition_ratio(rollout.text))
        averages.add("rollout_entropy", sum(rollout.entropies.tolist()), len(rollout.entropies))
    total = len(batch.sampled)
    for name in [name for name in averages.sums if name.startswith("verdict/")]:
        averages.counts[name] = total
    tokens = sum(len(rollout.tokens) for rollout, _ in batch.sampled)
    return {
        **averages.result(),
        "signal": batch.with_signal / batch.asked,
        "groups": float(len(batch.groups)),
        "responses": float(total),
        "tokens": float(tokens),
    }
