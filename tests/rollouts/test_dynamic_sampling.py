"""What a step samples does not depend on what ends first, nor, as a whole, on how many ranks sample it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.rollouts import plain

from archer.algorithms import ALGORITHMS
from archer.distributed import Ranks
from archer.engines.queue import FixedQueue, RequestQueue, requests_for
from archer.engines.scripted import ScriptedEngine
from archer.problems.streams import open_stream
from archer.recipe.sections import DataSource, RolloutSection
from archer.rewards.grading import Grader
from archer.rollouts.collect import RolloutBatch, StepClock, StepSampler
from archer.rollouts.dynamic_sampling import GradedGroup, GroupSampler, RankQuota, StreamCursor, has_signal
from archer.runs.checkpoints import read_arrays, write_arrays
from archer.types import Problem, Rollout, Sampling, Verdict

SAMPLING = Sampling(max_tokens=100)
ROLLOUT = RolloutSection(prompts=4, samples_per_prompt=2, max_tokens=100)


def third(problem: Problem, sample: int) -> str:
    """Every third problem is solved by one of its two samples, the others by none."""
    index = int(problem.id.rsplit("/", 1)[1])
    return f"\\boxed{{{problem.gold if sample == 0 and index % 3 == 0 else 0}}}"


class Backwards(ScriptedEngine):
    """Ends its newest rollout first, and asks for more after each."""

    def generate(self, queue: RequestQueue, sampling: Sampling) -> Iterator[Rollout]:
        waiting = queue.take(1000, True)
        while waiting:
            yield self._rollout(waiting.pop(), sampling, queue.logps)
            waiting += queue.take(1000, not waiting)


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


def test_a_group_travels_as_arrays(tmp_path: Path) -> None:
    with Grader(1, 5.0) as grader:
        one = sampler(ScriptedEngine(third), grader)
        cut = one.sample(StreamCursor(), StepClock())[0]
        text = write_arrays(tmp_path, {"ahead": [cut.state()]})
        [state] = read_arrays(tmp_path, json.loads(text))["ahead"]
        again, problem = GradedGroup.restored(state), one.problem(StreamCursor(), 0)
        (found, verdicts), (expected, judged) = (zip(*group.graded(problem), strict=True) for group in (again, cut))
    assert plain(found) == plain(expected)
    assert [one.tokens.dtype for one in found] == [np.int32, np.int32]
    assert verdicts == judged
    assert judged[0].passed
    assert all(one.problem is problem for one in found)
    assert problem.prompt not in text  # whoever restores it takes the problem from the stream


def test_a_group_of_a_checkpoint_of_before_is_read() -> None:
    values = [0, [49, 43], [52, 0], [-0.5, -0.25], [0.125, 0.0], "4", "end", 3, 1.0, True, "right", "4"]
    problem = Problem("p", "s", "1+", "math", "4")
    [(rollout, verdict)] = GradedGroup.restored([7, [values]]).graded(problem)
    assert (rollout.prompt_tokens.tolist(), rollout.tokens.tolist()) == ([49, 43], [52, 0])
    assert (rollout.logps.tolist(), rollout.entropies.tolist()) == ([-0.5, -0.25], [0.125, 0.0])
    assert (rollout.text, rollout.stop, rollout.version, rollout.problem) == ("4", "end", 3, problem)
    assert verdict == Verdict(1.0, True, "right", "4")


def test_signal_is_the_spread_of_rewards() -> None:
    rollout = Rollout.of_text(Problem("p", "s", "", "math", "4"), "")

    def group(*scores: float) -> list[tuple[Rollout, Verdict]]:
        return [(rollout, Verdict(score, score >= 1, "judged")) for score in scores]

    assert has_signal(group(1.0, 0.0, 1.0))
    assert has_signal(group(0.25, 0.5))  # partial credit, none of it passed
    assert not has_signal(group(0.5, 0.5))
    assert not has_signal(group(1.0))


def test_what_grading_raises_reaches_the_loop() -> None:
    problem = replace(open_stream([DataSource("lab-arithmetic")], seed=0).take(0, 1)[0], gold=None)
    with (
        Grader(1, 5.0) as grader,
        GroupSampler(RankQuota(1, 1), lambda place: requests_for(problem, (0, 1), 0), grader) as lane,
    ):
        for rollout in ScriptedEngine(lambda *_: "\\boxed{1}").generate(lane, Sampling()):
            lane.put(rollout)
        with pytest.raises(Exception, match="lab-arithmetic"):
            lane.graded_groups()


def test_replacements_come_a_fixed_number_of_questions_after_their_group() -> None:
    with Grader(1, 5.0) as grader:
        stream = open_stream([DataSource("lab-arithmetic")], seed=0)
        engine = ScriptedEngine(third)
        with GroupSampler(
            RankQuota(1, 3), lambda place: requests_for(stream.take(place + 1, 1)[0], (0, 1), 0), grader
        ) as lane:
            assert [len(lane.take(1, True)), len(lane.take(5, False)), len(lane.take(0, False))] == [1, 1, 0]
            for request in lane.groups[0].requests:
                lane.put(next(engine.generate(FixedQueue([request]), SAMPLING)))
            asked = [len(lane.take(1, False)) for _ in range(10)]
    assert asked == [0] * 7 + [1, 1, 0]  # both samples of the next problem at the eighth question
