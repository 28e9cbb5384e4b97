"""Which groups train: signal, drop, refill within its bound, overlong shaping and filtering."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archer.algorithms import ALGORITHMS, Algorithm
from archer.engines.scripted import ScriptedEngine
from archer.errors import UserError
from archer.problems.streams import open_stream
from archer.recipe.sections import DataSource, RolloutSection
from archer.rewards.grading import Grader
from archer.rollouts.collect import RolloutBatch, StepClock, StepSampler, assign_advantages, rollout_metrics
from archer.rollouts.dynamic_sampling import StreamCursor
from archer.types import Problem

ROLLOUT = RolloutSection(prompts=4, samples_per_prompt=2, max_tokens=100)


def mixed(problem: Problem, sample: int) -> str:
    """Every third problem is solved by one of its two samples, the others by none."""
    index = int(problem.id.rsplit("/", 1)[1])
    return f"\\boxed{{{problem.gold if sample == 0 and index % 3 == 0 else 0}}}"


def harvest(groups: str, answer=mixed, position: int = 0, **changes: object) -> RolloutBatch:
    algorithm = replace(ALGORITHMS["dapo"], group_filter=groups, **changes)
    stream = open_stream([DataSource("lab-arithmetic")], seed=0)
    with Grader(1, 5.0) as grader:
        return StepSampler(ScriptedEngine(answer), grader, stream, ROLLOUT, algorithm, seed=0).collect(
            StreamCursor(position), StepClock()
        )


def indices(found: RolloutBatch) -> list[int]:
    return [int(group[0][0].problem.id.rsplit("/", 1)[1]) for group in found.groups]


def test_all_keeps_every_group() -> None:
    found = harvest("none")
    assert indices(found) == [0, 1, 2, 3]
    assert (found.cursor, found.asked, found.with_signal) == (StreamCursor(4), 4, 2)


def test_drop_leaves_out_groups_without_signal_and_does_not_refill() -> None:
    found = harvest("drop")
    assert indices(found) == [0, 3]
    assert found.cursor == StreamCursor(4)


def test_refill_fills_the_batch_and_counts_what_it_took() -> None:
    found = harvest("resample")
    assert indices(found) == [0, 3, 6, 9]
    # 4 asked, 1 and 2 without signal; for them 4 and 5, also without; for them 6 and 7; for 7 8, for 8 9.
    assert [r.problem.id for r, _ in found.sampled[::2]] == [f"lab-arithmetic/train/{index}" for index in range(10)]
    assert (found.cursor, found.asked, found.with_signal) == (StreamCursor(10), 10, 4)


def test_refill_goes_on_from_where_the_stream_stood() -> None:
    assert indices(harvest("resample", position=9)) == [9, 12, 15, 18]


def test_a_refill_without_end_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(
        UserError,
        match=r"of 12 groups asked only 0 have samples with different rewards, 4 are wanted; make the problems harder or easier",
    ):
        harvest("resample", lambda problem, sample: "\\boxed{1}", max_resample_rounds=2)


def packed(algorithm: Algorithm, texts: list[str]) -> list:
    """The responses of one group whose samples say ``texts``."""
    stream = open_stream([DataSource("lab-arithmetic")], seed=0)
    rollout = replace(ROLLOUT, prompts=1, samples_per_prompt=len(texts))
    script = ScriptedEngine(lambda problem, sample: texts[sample].replace("GOLD", problem.gold))
    with Grader(1, 5.0) as grader:
        found = StepSampler(script, grader, stream, rollout, algorithm, seed=0).collect(StreamCursor(), StepClock())
    return list(assign_advantages(found.groups, algorithm, rollout.max_tokens)[0])


def test_advantages_of_one_right_of_four_by_hand() -> None:
    algorithm = replace(ALGORITHMS["grpo"], overlong_buffer=0.0)
    responses = packed(algorithm, ["\\boxed{GOLD}", "\\boxed{1}", "\\boxed{2}", "\\boxed{3}"])
    assert [one.advantage for one in responses] == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)


def test_overlong_shaping_lowers_the_reward_inside_the_buffer() -> None:
    # max 100, buffer 20: a right answer of 90 tokens gets 1 - 0.5, a wrong short one 0; mean-only advantages.
    algorithm = replace(ALGORITHMS["dapo"], advantage="centred", group_filter="none")
    responses = packed(algorithm, ["\\boxed{GOLD}".rjust(95), "\\boxed{1}"])
    length = len(responses[0].tokens)
    assert responses[0].advantage == pytest.approx((1 + (80 - length) / 20) / 2)


def test_overlong_filtering_keeps_cut_responses_out_of_the_loss() -> None:
    algorithm = replace(ALGORITHMS["grpo"], overlong_filter=True)
    responses = packed(algorithm, ["\\boxed{GOLD}", "x" * 150])
    assert [one.in_loss for one in responses] == [True, False]


def test_metrics_describe_everything_sampled() -> None:
    metrics = rollout_metrics(harvest("drop"), 0)
    assert metrics["reward"] == pytest.approx(2 / 8)
    assert metrics["verdict/right"] == pytest.approx(2 / 8)
    assert metrics["signal"] == pytest.approx(2 / 4)
    assert (metrics["groups"], metrics["responses"]) == (2, 8)


def test_the_tests_of_a_program_are_drawn_once_for_its_group() -> None:
    seen: dict[str, list[object]] = {}

    def remember(problem: Problem, sample: int) -> str:
        seen.setdefault(problem.id, []).append(tuple(test["arguments"][0] for test in problem.gold["tests"]))
        return "no program"

    for position in (0, 4):
        stream = open_stream([DataSource("lab-code")], seed=0)
        with Grader(1, 5.0) as grader:
            sampler = StepSampler(
                ScriptedEngine(remember), grader, stream, ROLLOUT, ALGORITHMS["grpo"], seed=0, tests=2
            )
            sampler.collect(StreamCursor(position), StepClock())
    draws = [drawn[0] for drawn in seen.values()]
    assert all(drawn == [drawn[0]] * 2 for drawn in seen.values())  # both samples of a group
    assert all(len(draw) == 2 and set(draw) <= {3, 7, 13, 26} for draw in draws)
    assert len(set(draws)) > 1  # and anew for every problem


def test_programs_start_while_others_are_sampled() -> None:
    started: list[str] = []

    class Watching(Grader):
        def begin(self):
            begun = super().begin()
            begun.put = lambda rollout: started.append(rollout.problem.id)  # type: ignore[method-assign]
            return begun

    stream = open_stream([DataSource("lab-arithmetic")], seed=0)
    with Watching(1, 5.0) as grader:
        StepSampler(ScriptedEngine(mixed), grader, stream, ROLLOUT, ALGORITHMS["grpo"], seed=0).collect(
            StreamCursor(), StepClock()
        )
    assert started == [f"lab-arithmetic/train/{n}" for n in range(4) for _ in range(2)]
