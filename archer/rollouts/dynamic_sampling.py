"""Dynamic sampling of one rank's share of a step's groups, graded while others are still being sampled.

A group is graded as soon as its last sample ends. With dynamic sampling, the rank's next problem replaces a group
without signal at once. The rank therefore samples the shortest prefix of its problems that has the wanted number of
groups with signal, and timing does not change which.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import TypeAdapter

from archer.engines.queue import take_first
from archer.rewards.grading import Grader, RunsUnderWay
from archer.types import Json, Problem, Request, Rollout, Verdict

Graded = tuple[Rollout, Verdict]
LEFT_OUT = Problem("", "", "", "", None)  # of a group on its way: golds may be large, and every rank has the problems
OWN_FIELDS = tuple(one.name for one in fields(Rollout) if one.name != "problem")
VERDICT = TypeAdapter(Verdict)
LAG = 8  # calls of `take` between a group's end and the use of its verdicts: grading overlaps sampling


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


@dataclass(frozen=True, eq=False)
class GradedGroup:
    """A graded group without its problem, for other ranks and checkpoints; ``place`` is that of the problem."""

    place: int
    rollouts: tuple[Rollout, ...]
    verdicts: tuple[Verdict, ...]

    @classmethod
    def of(cls, place: int, group: Sequence[Graded]) -> Self:
        """Return a group without its problem."""
        rollouts = tuple(replace(rollout, problem=LEFT_OUT) for rollout, _ in group)
        return cls(place, rollouts, tuple(verdict for _, verdict in group))

    def graded(self, problem: Problem) -> list[Graded]:
        """Return the group's rollouts and verdicts."""
        rollouts = [replace(rollout, problem=problem) for rollout in self.rollouts]
        return list(zip(rollouts, self.verdicts, strict=True))

    def state(self) -> dict[str, Any]:
        """Return the group as plain values and arrays, for a checkpoint."""
        return {
            "place": self.place,
            "rollouts": [{name: getattr(one, name) for name in OWN_FIELDS} for one in self.rollouts],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
        }

    @classmethod
    def restored(cls, state: Any) -> Self:
        """Return the group that :meth:`state` was called of, or that a checkpoint of before holds."""
        if isinstance(state, Mapping):
            rollouts = tuple(Rollout(LEFT_OUT, **values) for values in state["rollouts"])
            return cls(state["place"], rollouts, tuple(VERDICT.validate_python(one) for one in state["verdicts"]))
        place, samples = state
        return cls.of(place, [graded_of_values(values) for values in samples])


@dataclass
class PendingGroup:
    """A group that is being sampled or graded, with the rollouts that are finished.

    - ``started``: the grader's runs that started early
    - ``due``: the call of `take` that uses the verdicts
    """

    place: int
    requests: Sequence[Request]
    started: RunsUnderWay
    rollouts: list[Rollout] = field(default_factory=list)
    due: int = 0
    verdicts: Future[list[Verdict]] | None = None

    def group(self) -> list[Graded]:
        """Return the graded group, waiting for its verdicts. Raises the grader's errors."""
        if self.verdicts is None:
            raise AssertionError(f"{self.requests[0].problem.id}: not all of its samples were drawn")
        return list(zip(self.rollouts, self.verdicts.result(), strict=True))


class GroupSampler:
    """Samples one rank's share; a context manager that ends the grading thread.

    It is the :class:`~archer.engines.queue.RequestQueue` of the engine, which :meth:`put` gets the rollouts of;
    ``ask`` makes the requests of the group at a place.
    """

    logps = True

    def __init__(self, quota: RankQuota, ask: Callable[[int], Sequence[Request]], grader: Grader) -> None:
        self.quota, self.ask, self.grader = quota, ask, grader
        self.waiting: deque[Request] = deque()
        self.groups: list[PendingGroup] = []
        self.grading: deque[PendingGroup] = deque()  # graded or being graded, their signal not used yet
        self.by_problem: dict[int, PendingGroup] = {}
        self.calls = 0
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="grading")
        for _ in range(quota.wanted):
            self._ask()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thread.shutdown(wait=kind is None, cancel_futures=True)

    @property
    def growing(self) -> bool:
        """Whether groups without signal are replaced still."""
        return len(self.groups) < self.quota.most

    def put(self, rollout: Rollout) -> None:
        """Add a finished rollout to its group; start grading once the group is complete."""
        pending = self.by_problem[id(rollout.problem)]
        pending.rollouts.append(rollout)
        pending.started.put(rollout)
        if len(pending.rollouts) == len(pending.requests):
            pending.rollouts.sort(key=lambda member: member.sample)
            pending.verdicts = self.thread.submit(self.grader.grade, pending.rollouts, pending.started)
            pending.due = self.calls + LAG
            self.grading.append(pending)

    def take(self, free: int, idle: bool) -> list[Request]:
        """Return at most ``free`` requests; where none waits, first one group for every group that had no signal.

        Verdicts are used, and waited for, a fixed number of calls after their group ended, so that an engine that
        makes the same calls decodes the same rows together on every rerun.
        """
        if not self.waiting and free > 0:
            self.calls += 1
            while self.growing and self.grading and (idle or self.grading[0].due <= self.calls):
                if not has_signal(self.grading.popleft().group()):
                    self._ask()
        return take_first(self.waiting, free)

    def graded_groups(self) -> list[GradedGroup]:
        """Return every group, waiting for its verdicts."""
        return [GradedGroup.of(pending.place, pending.group()) for pending in self.groups]

    def _ask(self) -> None:
        """Add the requests of the next group."""
        place = self.quota.rank + len(self.groups) * self.quota.world
        pending = PendingGroup(place, self.ask(place), self.grader.begin())
        self.groups.append(pending)
        self.by_problem[id(pending.requests[0].problem)] = pending
        self.waiting.extend(pending.requests)


def has_signal(group: Sequence[Graded]) -> bool:
    """Whether the rewards of a group differ; others have no group-relative advantage."""
    scores = [verdict.score for _, verdict in group]
    return max(scores) - min(scores) > 0


def graded_of_values(values: Sequence[Json]) -> Graded:
    """Return a rollout and its verdict from a checkpoint of before, which held plain values."""
    sample, prompt, tokens, logps, entropies, text, stop, version, *verdict = values
    rollout = Rollout(
        LEFT_OUT, sample, np.array(prompt, np.int32), np.array(tokens, np.int32), np.array(logps, np.float32),
        np.array(entropies, np.float32), text, stop, version,
    )  # fmt: skip
    return rollout, Verdict(*verdict)
