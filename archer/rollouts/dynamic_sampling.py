"""Dynamic sampling of one rank's share of a step's groups, graded while others are still being sampled.

A group is graded as soon as its last sample ends. With dynamic sampling, the rank's next problem replaces a group
without signal at once. The rank therefore samples the shortest prefix of its problems that has the wanted number of
groups with signal, and timing does not change which.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from archer.rewards.grading import Grader, RunsUnderWay
from archer.types import Json, Problem, Request, Rollout, Stop, Verdict

Graded = tuple[Rollout, Verdict]
LAG = 8  # calls of `more` between a group's end and the use of its verdicts: grading overlaps sampling


@dataclass(frozen=True)
class StreamCursor:
    """A position in the problem stream: ``next`` and all after it are unused, and so are the few ``left`` before it."""

    next: int = 0
    left: tuple[int, ...] = ()

    def at(self, place: int) -> int:
        """Return the stream position of the ``place``-th problem that is not sampled yet."""
        return self.left[place] if place < len(self.left) else self.next + place - len(self.left)

    def after(self, places: Collection[int]) -> StreamCursor:
        """Return the cursor after the problems at ``places`` were sampled; the others before them are ``left``."""
        positions = {self.at(place) for place in places}
        end = max([self.next, *(position + 1 for position in positions)])
        waiting = [*self.left, *range(self.next, end)]
        return StreamCursor(end, tuple(position for position in waiting if position not in positions))


@dataclass(frozen=True)
class RankQuota:
    """One rank's share of a step: ``wanted`` groups, of every ``world``-th problem from the ``rank``-th on.

    If ``most`` is larger, groups without signal are replaced until ``most`` groups were sampled.
    """

    wanted: int
    most: int
    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class GradedGroup:
    """A graded group as plain values without its problem, for other ranks and checkpoints."""

    place: int
    samples: tuple[tuple[Json, ...], ...]

    def graded(self, problem: Problem) -> list[Graded]:
        """Return the group's rollouts and verdicts."""
        return [graded(problem, sample) for sample in self.samples]


@dataclass
class PendingGroup:
    """A group that is being sampled or graded, with the rollouts that are finished.

    - ``started``: the grader's runs that started early
    - ``due``: the call of `more` that uses the verdicts
    """

    place: int
    ask: Request
    started: RunsUnderWay
    rollouts: list[Rollout] = field(default_factory=list)
    due: int = 0
    verdicts: Future[list[Verdict]] | None = None

    def group(self) -> list[Graded]:
        """Return the graded group, waiting for its verdicts. Raises the grader's errors."""
        if self.verdicts is None:
            raise AssertionError(f"{self.ask.problem.id}: not all of its samples were drawn")
        return list(zip(self.rollouts, self.verdicts.result(), strict=True))


class GroupSampler:
    """Samples one rank's share; a context manager that ends the grading thread. ``ask`` makes a place's request."""

    def __init__(self, quota: RankQuota, ask: Callable[[int], Request], grader: Grader) -> None:
        self.quota, self.ask, self.grader = quota, ask, grader
        self.groups: list[PendingGroup] = []
        self.grading: deque[PendingGroup] = deque()  # graded or being graded, their signal not used yet
        self.by_problem: dict[int, PendingGroup] = {}
        self.calls = 0
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="grading")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thread.shutdown(wait=kind is None, cancel_futures=True)

    def first(self) -> list[Request]:
        """Return the first requests: one for each wanted group."""
        return [self._ask() for _ in range(self.quota.wanted)]

    def finished(self, rollout: Rollout) -> None:
        """Add a finished rollout to its group; start grading once the group is complete."""
        pending = self.by_problem[id(rollout.problem)]
        pending.rollouts.append(rollout)
        pending.started.put(rollout)
        if len(pending.rollouts) == len(pending.ask.samples):
            pending.rollouts.sort(key=lambda member: member.sample)
            pending.verdicts = self.thread.submit(self.grader.grade, pending.rollouts, pending.started)
            pending.due = self.calls + LAG
            self.grading.append(pending)

    def more(self, idle: bool) -> Sequence[Request]:
        """Return a request for every group that ended without signal. See :data:`archer.engines.base.MoreRequests`.

        Verdicts are used, and waited for, a fixed number of calls after their group ended, so that an engine that
        makes the same calls decodes the same rows together on every rerun.
        """
        self.calls += 1
        requests: list[Request] = []
        while len(self.groups) < self.quota.most and self.grading and (idle or self.grading[0].due <= self.calls):
            if not has_signal(self.grading.popleft().group()):
                requests.append(self._ask())
        return requests

    def graded_groups(self) -> list[GradedGroup]:
        """Return every group, waiting for its verdicts."""
        return [GradedGroup(pending.place, tuple(map(sample, pending.group()))) for pending in self.groups]

    def _ask(self) -> Request:
        place = self.quota.rank + len(self.groups) * self.quota.world
        pending = PendingGroup(place, self.ask(place), self.grader.begin())
        self.groups.append(pending)
        self.by_problem[id(pending.ask.problem)] = pending
        return pending.ask


def has_signal(group: Sequence[Graded]) -> bool:
    """Whether a group has both right and wrong samples; others have no group-relative advantage."""
    return len({verdict.passed for _, verdict in group}) == 2


def sample(one: Graded) -> tuple[Json, ...]:
    """Return a graded rollout as plain values, without its problem."""
    rollout, verdict = one
    return (
        rollout.sample, rollout.prompt_tokens, rollout.tokens, rollout.logps, rollout.entropies, rollout.text,
        rollout.stop, rollout.version, verdict.score, verdict.passed, verdict.reason, verdict.answer,
        verdict.parts, verdict.token_scores,
    )  # fmt: skip


def graded(problem: Problem, values: Sequence[Json]) -> Graded:
    """Return what :func:`sample` was made of."""
    number, prompt, tokens, logps, entropies, text, stop, version, *verdict = values
    reason: Stop = stop
    rollout = Rollout(
        problem, number, tuple(prompt), tuple(tokens), tuple(logps), tuple(entropies), text, reason, version
    )
    return rollout, Verdict(*verdict)
