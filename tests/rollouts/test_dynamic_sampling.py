"""What a step samples does not depend on what ends first, nor, as a whole, on how many ranks sample it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from archer.algorithms import ALGORITHMS
from archer.distributed import Ranks
from archer.engines.base import Finished, More
from archer.engines.scripted import Scripted
from archer.problems.streams import open_stream
from archer.recipe.sections import Rollouts, Source
from archer.rewards.grading import Grader
from archer.rollouts.collect import Clock, Harvest, Sampler
from archer.rollouts.dynamic_sampling import Cut, Lane, Queue, Share
from archer.types import Ask, Problem, Rollout, Sampling

ROLLOUT = Rollouts(prompts=4, group=2, max_tokens=100)


def third(problem: Problem, sample: int) -> str:
    """Every third problem is solved by one of its two samples, the others by none."""
    index = int(problem.id.rsplit("/", 1)[1])
    return f"\\boxed{{{problem.gold if sample == 0 and index % 3 == 0 else 0}}}"


class Backwards(Scripted):
    """Ends its newest rollout first, and asks for more after each."""

    def generate(
        self, asks: Sequence[Ask], sampling: Sampling, finished: Finished = lambda rollout: None, more: More = None
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


def sampler(engine: Scripted, grader: Grader, rank: int = 0, world: int = 1) -> Sampler:
    stream = open_stream([Source("lab-arithmetic")], seed=0)
    algorithm = replace(ALGORITHMS["dapo"], groups="refill")
    return Sampler(engine, grader, stream, ROLLOUT, algorithm, seed=0, ranks=Ranks(rank, world))


def names(harvest: Harvest) -> list[tuple[str, int, str]]:
    return [(rollout.problem.id, rollout.sample, rollout.text) for rollout, _ in harvest.sampled]


def test_the_order_in_which_rollouts_end_decides_nothing() -> None:
    with Grader(1, 5.0) as grader:
        found = [sampler(engine(third), grader).harvest(Queue(), Clock()) for engine in (Scripted, Backwards)]
    assert names(found[0]) == names(found[1])
    assert [one.queue for one in found] == [Queue(10), Queue(10)]


def test_two_ranks_lose_no_problem_and_repeat_none() -> None:
    with Grader(1, 5.0) as grader:
        lanes = [sampler(Scripted(third), grader, rank, 2) for rank in (0, 1)]
        cuts = [lane.sample(Queue(), Clock()) for lane in lanes]
        # Of 0 2 4 6 ... the first two with signal are 0 and 6, of 1 3 5 ... they are 3 and 9.
        assert [[cut.place for cut in part] for part in cuts] == [[0, 2, 4, 6], [1, 3, 5, 7, 9]]
        found = lanes[0].merge(Queue(), sorted(cuts[0] + cuts[1], key=lambda cut: cut.place))
    assert [group[0][0].problem.id.rsplit("/")[-1] for group in found.groups] == ["0", "3", "6", "9"]
    assert found.queue == Queue(10, (8,))  # nobody asked for 8: it comes first in the next step
    assert [found.queue.at(place) for place in range(3)] == [8, 10, 11]


def test_a_queue_goes_on_behind_what_was_asked() -> None:
    queue = Queue(10, (3, 8))
    assert queue.after([0, 1, 2]) == Queue(11)
    assert queue.after([1, 3]) == Queue(12, (3, 10))
    assert queue.after([]) == queue


def test_a_group_travels_as_plain_values() -> None:
    with Grader(1, 5.0) as grader:
        one = sampler(Scripted(third), grader)
        cut = one.sample(Queue(), Clock())[0]
        again = Cut(cut.place, tuple([list(values) for values in cut.samples]))  # as JSON gives it back
        problem = one.problem(Queue(), 0)
        assert again.graded(problem) == cut.graded(problem)
        assert cut.graded(problem)[0][1].correct


def test_what_grading_raises_reaches_the_loop() -> None:
    problem = replace(open_stream([Source("lab-arithmetic")], seed=0).take(0, 1)[0], gold=None)
    with Grader(1, 5.0) as grader, Lane(Share(1, 1), lambda place: Ask(problem, (0, 1), 0), grader) as lane:
        Scripted(lambda *_: "\\boxed{1}").generate(lane.first(), Sampling(), lane.finished, lane.more)
        with pytest.raises(Exception, match="lab-arithmetic"):
            lane.cuts()
