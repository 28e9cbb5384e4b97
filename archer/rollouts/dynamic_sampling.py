"""One rank's share of a step's groups while they are sampled: grading overlaps sampling, refills do not wait.

A group is graded as soon as its last sample ends. With dynamic sampling, a group without signal is replaced at once
by the next problem of the lane, while others are still being sampled. What is asked for is therefore the shortest
beginning of the lane that has as many groups with signal as wanted, whatever ends first: timing decides nothing.
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
LAG = 8  # calls of `more` from a group's end until its verdicts are used, so that grading them overlaps sampling


@dataclass(frozen=True)
class StreamCursor:
    """Where the problem stream stands: ``next`` has not been asked, nor have the few ``left`` before it."""

    next: int = 0
    left: tuple[int, ...] = ()

    def at(self, place: int) -> int:
        """Return the position in the stream of the ``place``-th problem waiting."""
        return self.left[place] if place < len(self.left) else self.next + place - len(self.left)

    def after(self, places: Collection[int]) -> StreamCursor:
        """Return the queue once the problems at ``places`` were asked: none is lost, none comes twice."""
        positions = {self.at(place) for place in places}
        end = max([self.next, *(position + 1 for position in positions)])
        waiting = [*self.left, *range(self.next, end)]
        return StreamCursor(end, tuple(position for position in waiting if position not in positions))


@dataclass(frozen=True)
class RankQuota:
    """What one rank is to sample: ``wanted`` groups of every ``world``-th problem from ``rank`` on.

    Where ``most`` is larger, groups without signal are replaced until ``most`` were asked for.
    """

    wanted: int
    most: int
    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class GradedGroup:
    """A graded group as it travels between ranks and lies in checkpoints: plain values, without its problem."""

    place: int
    samples: tuple[tuple[Json, ...], ...]

    def graded(self, problem: Problem) -> list[Graded]:
        """Return the group again."""
        return [graded(problem, sample) for sample in self.samples]


@dataclass
class PendingGroup:
    """A problem that was asked for, and its group as far as it is there."""

    place: int
    ask: Request
    started: RunsUnderWay
    rollouts: list[Rollout] = field(default_factory=list)
    due: int = 0
    verdicts: Future[list[Verdict]] | None = None

    def group(self) -> list[Graded]:
        """Return the graded group, waiting for its verdicts. Raises what grading raised."""
        if self.verdicts is None:
            raise AssertionError(f"{self.ask.problem.id}: not all of its samples were drawn")
        return list(zip(self.rollouts, self.verdicts.result(), strict=True))


class GroupSampler:
    """A share under way; a context manager that ends the grading thread. ``ask`` makes the request for a place."""

    def __init__(self, share: RankQuota, ask: Callable[[int], Request], grader: Grader) -> None:
        self.quota, self.ask, self.grader = share, ask, grader
        self.turns: list[PendingGroup] = []
        self.waited: deque[PendingGroup] = deque()  # graded or being graded, their signal not yet asked for
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
        """Return what is asked for at once."""
        return [self._ask() for _ in range(self.quota.wanted)]

    def finished(self, rollout: Rollout) -> None:
        """Take a rollout; grade its group when it is whole."""
        turn = self.by_problem[id(rollout.problem)]
        turn.rollouts.append(rollout)
        turn.started.put(rollout)
        if len(turn.rollouts) == len(turn.ask.samples):
            turn.rollouts.sort(key=lambda one: one.sample)
            turn.verdicts = self.thread.submit(self.grader.grade, turn.rollouts, turn.started)
            turn.due = self.calls + LAG
            self.waited.append(turn)

    def more(self, idle: bool) -> Sequence[Request]:
        """Return an ask for every group that ended without signal. See :data:`archer.engines.base.MoreRequests`.

        Verdicts are taken a fixed number of calls after their group ended, waited for if need be, so that an engine
        that counts its calls alike decodes the same rows together on every rerun.
        """
        self.calls += 1
        asks: list[Request] = []
        while len(self.turns) < self.quota.most and self.waited and (idle or self.waited[0].due <= self.calls):
            if not has_signal(self.waited.popleft().group()):
                asks.append(self._ask())
        return asks

    def graded_groups(self) -> list[GradedGroup]:
        """Return every group, waiting for what is still being graded."""
        return [GradedGroup(turn.place, tuple(map(sample, turn.group()))) for turn in self.turns]

    def _ask(self) -> Request:
        place = self.quota.rank + len(self.turns) * self.quota.world
        turn = PendingGroup(place, self.ask(place), self.grader.begin())
        self.turns.append(turn)
        self.by_problem[id(turn.ask.problem)] = turn
        return turn.ask


def has_signal(group: Sequence[Graded]) -> bool:
    """Say whether a group has both right and wrong samples: others have no group-relative advantage."""
    return len({verdict.correct for _, verdict in group}) == 2


def sample(one: Graded) -> tuple[Json, ...]:
    """Return a graded rollout as plain values, without its problem."""
    rollout, verdict = one
    return (
        rollout.sample, rollout.prompt_tokens, rollout.tokens, rollout.logps, rollout.entropies, rollout.text,
        rollout.stop, rollout.version, verdict.reward, verdict.correct, verdict.reason, verdict.answer,
    )  # fmt: skip


def graded(problem: Problem, values: Sequence[Json]) -> Graded:
    """Return what :func:`sample` was made of."""
    number, prompt, tokens, logps, entropies, text, stop, version, *verdict = values
    kept: Stop = stop
    rollout = Rollout(
        problem, number, tuple(prompt), tuple(tokens), tuple(logps), tuple(entropies), text, kept, version
    )
    return rollout, Verdict(*verdict)
