"""What a step samples does not depend on what ends first, nor, as a whole, on how many ranks sample it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from archer.algorithms import ALGORITHMS
from archer.distributed import Ranks
from archer.engines.base import MoreRequests, OnRollout
from archer.engines.scripted import ScriptedEngine
from archer.problems.streams import open_stream
from archer.recipe.sections import DataSource, RolloutSection
from archer.rewards.grading import Grader
from archer.rollouts.collect import RolloutBatch, StepClock, StepSampler
from archer.rollouts.dynamic_sampling import GradedGroup, GroupSampler, RankQuota, StreamCursor
from archer.types import Problem, Request, Rollout, Sampling

ROLLOUT = RolloutSection(prompts=4, samples_per_prompt=2, max_tokens=100)


def third(problem: Problem, sample: int) -> str:
    """Every third problem is solved by one of its two samples, the others by none."""
    index = int(problem.id.rsplit("/", 1)[1])
    return f"\\boxed{{{problem.gold if sample == 0 and index % 3 == 0 else 0}}}"


class Backwards(ScriptedEngine):
    """Ends its newest rollout first, and asks for more after each."""

    def generate(
        self,
        asks: Sequence[Request],
        sampling: Sampling,
        finished: OnRollout = lambda rollout: None,
        more: MoreRequests = None,
    ) -> list[Rollout]:
        waiting, done = [], []
        rows = [(ask, sample) for ask in asks for sample in ask.samples]
        waiting += rows
        while waiting:
            ask, sample = waiting.pop()
            rollout = self._rollout(ask.problem, sample, sampling)
            done.append(rollout)
            finished(rollout)
            waiting += [(ask, sample) for ask in more(not waiting) for sample in ask.samples]
        return done


def sampler(engine: ScriptedEngine, grader: Grader, rank: int = 0, world: int = 1) -> StepSampler:
    stream = open_stream([DataSource("lab-arithmetic")], seed=0)
    algorithm = replace(ALGORITHMS["dapo"], group_filter="resample")
    return StepSampler(engine, grader, stream, ROLLOUT, algorithm, seed=0, ranks=Ranks(rank, world))


def names(harvest: RolloutBatch) -> list[tuple[str, int, str]]:
    return [(rollout.problem.id, rollout.sample, rollout.text) for rollout, _ in harvest.sampled]


def test_the_order_in_which_rollouts_end_decides_nothing() -> None:
    with Grader(1, 5.0) as grader:
        found = [
            sampler(engine(third), grader).collect(StreamCursor(), StepClock())
            for engine in (ScriptedEngine, Backwards)
        ]
    assert names(found[0]) == names(found[1])
    assert [one.cursor for one in found] == [StreamCursor(10), StreamCursor(10)]


def test_two_ranks_lose_no_problem_and_repeat_none() -> None:
    with Grader(1, 5.0) as grader:
        lanes = [sampler(ScriptedEngine(third), grader, rank, 2) for rank in (0, 1)]
        cuts = [lane.sample(StreamCursor(), StepClock()) for lane in lanes]
        # Of 0 2 4 6 ... the first two with signal are 0 and 6, of 1 3 5 ... they are 3 and 9.
        assert [[cut.place for cut in part] for part in cuts] == [[0, 2, 4, 6], [1, 3, 5, 7, 9]]
        found = lanes[0].merge(StreamCursor(), sorted(cuts[0] + cuts[1], key=lambda cut: cut.place))
    assert [group[0][0].problem.id.rsplit("/")[-1] for group in found.groups] == ["0", "3", "6", "9"]
    assert found.cursor == StreamCursor(10, (8,))  # nobody asked for 8: it comes first in the next step
    assert [found.cursor.at(place) for place in range(3)] == [8, 10, 11]


def test_a_queue_goes_on_behind_what_was_asked() -> None:
    queue = StreamCursor(10, (3, 8))
    assert queue.after([0, 1, 2]) == StreamCursor(11)
    assert queue.after([1, 3]) == StreamCursor(12, (3, 10))
    assert queue.after([]) == queue


def test_a_group_travels_as_plain_values() -> None:
    with Grader(1, 5.0) as grader:
        one = sampler(ScriptedEngine(third), grader)
        cut = one.sample(StreamCursor(), StepClock())[0]
        again = GradedGroup(cut.place, tuple([list(values) for values in cut.samples]))  # as JSON gives it back
        problem = one.problem(StreamCursor(), 0)
        assert again.graded(problem) == cut.graded(problem)
        assert cut.graded(problem)[0][1].passed


def test_what_grading_raises_reaches_the_loop() -> None:
    problem = replace(open_stream([DataSource("lab-arithmetic")], seed=0).take(0, 1)[0], gold=None)
    with (
        Grader(1, 5.0) as grader,
        GroupSampler(RankQuota(1, 1), lambda place: Request(problem, (0, 1), 0), grader) as lane,
    ):
        ScriptedEngine(lambda *_: "\\boxed{1}").generate(lane.first(), Sampling(), lane.finished, lane.more)
        with pytest.raises(Exception, match="lab-arithmetic"):
            lane.graded_groups()
