"""From graded groups to samples: advantages by any function, columns that are asked for and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from archer.algorithms import ALGORITHMS, Algorithm
from archer.algorithms.tokens import Tokens
from archer.errors import GraderError, UserError
from archer.rollouts.advantages import assign_advantages
from archer.trainer.batch import TrainSample
from archer.types import Problem, Rollout, Verdict

GRPO = ALGORITHMS["grpo"]
PROBLEM = Problem("sums/1", "sums", "1 + 1", "math", "2")
Graded = tuple[Rollout, Verdict]


def rollout(sample: int, length: int) -> Rollout:
    tokens, logps = tuple(range(length)), tuple(-0.1 * n for n in range(length))
    return Rollout(PROBLEM, sample, (7, 8), tokens, logps, (0.5,) * length, "", "end")


def group(*scores: float, token_scores: Sequence[tuple[float, ...]] = ((), (), ())) -> list[Graded]:
    """Responses of 1, 2, 3, ... tokens."""
    verdicts = [Verdict(score, score > 0, "right", token_scores=own) for score, own in zip(scores, token_scores)]  # noqa: B905
    return [(rollout(row, row + 1), verdict) for row, verdict in enumerate(verdicts)]


def made(algorithm: Algorithm, *groups: list[Graded]) -> list[list[TrainSample]]:
    return [list(one) for one in assign_advantages(groups, algorithm, 100)]


@dataclass(frozen=True)
class Asking:
    """An objective that reads what it is made with."""

    needs: frozenset[str]

    def __call__(self, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        return tokens.logp_BT, {}


def test_a_sample_holds_what_is_needed_alone() -> None:
    [[one, *_]] = made(GRPO, group(1.0, 0.0, 0.25))
    assert sorted(one.columns) == ["advantage", "entropy", "old_logp"]
    assert one.prompt.tolist() == [7, 8]
    assert (one.prompt.dtype, one.tokens.dtype) == (np.int32, np.int32)
    own = replace(
        GRPO,
        objective=Asking(frozenset({"reward", "score", "passed", "place"})),
        columns={"place": lambda group: [np.arange(len(rollout.tokens)) for rollout, _ in group]},
    )
    [[_, two, _]] = made(own, group(1.0, 0.0, 0.25))
    assert sorted(two.columns) == ["advantage", "entropy", "old_logp", "passed", "place", "reward", "score"]
    assert two["place"].tolist() == [0.0, 1.0]
    assert two["place"].dtype == torch.float32
    assert two["passed"].tolist() == [False, False]
    assert two["score"].tolist() == [0.0, 0.0]


def test_arrays_and_tuples_make_the_same_sample() -> None:
    graded = group(1.0, 0.0)
    arrays = [
        (
            replace(
                one,
                prompt_tokens=np.array(one.prompt_tokens, np.int32),
                tokens=np.array(one.tokens, np.int32),
                logps=np.array(one.logps, np.float32),
                entropies=np.array(one.entropies, np.float32),
            ),
            verdict,
        )
        for one, verdict in graded
    ]
    for left, right in zip(made(GRPO, graded)[0], made(GRPO, arrays)[0], strict=True):
        assert left.prompt.tolist() == right.prompt.tolist()
        assert left.tokens.tolist() == right.tokens.tolist()
        assert left.columns.keys() == right.columns.keys()
        assert all(torch.equal(left[name], right[name]) for name in left.columns)


def test_an_advantage_is_any_function_and_reads_what_it_names() -> None:
    def weighed(reward_PG: Tensor, length_PG: Tensor, passed_PG: Tensor) -> Tensor:
        """The length-weighted baseline of OPO."""
        assert passed_PG.dtype == torch.bool
        return reward_PG - (length_PG * reward_PG).sum(1, keepdim=True) / length_PG.sum(1, keepdim=True)

    found = made(replace(GRPO, advantage=weighed), group(1.0, 0.0, 1.0), group(0.0, 0.0, 1.0))
    values = [[float(one["advantage"][0]) for one in row] for row in found]
    assert values == pytest.approx(np.array([[2 / 6, -4 / 6, 2 / 6], [-0.5, -0.5, 0.5]]))
    by_name = replace(GRPO, advantage=f"{__file__}:doubled")
    assert made(by_name, group(1.0, 0.0))[0][0]["advantage"].tolist() == [2.0]


def doubled(reward_PG: Tensor) -> Tensor:
    return 2 * reward_PG


def test_process_rewards_are_an_advantage_for_each_token() -> None:
    scores = ((1.0,), (1.0, 3.0), (0.0, 2.0, 3.0))  # mean 2, deviation 1
    [[one, two, three]] = made(replace(GRPO, advantage="process"), group(0.0, 0.0, 1.0, token_scores=scores))
    assert one["advantage"].tolist() == pytest.approx([-1.0], abs=1e-5)
    assert two["advantage"].tolist() == pytest.approx([0.0, 1.0], abs=1e-5)
    assert three["advantage"].tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-5)
    assert three["token_score"].tolist() == [0.0, 2.0, 3.0]


def test_token_scores_that_do_not_fit_are_an_error_of_the_grader() -> None:
    graded = group(1.0, 0.0, token_scores=((1.0,), (1.0, 2.0, 3.0)))
    with pytest.raises(GraderError, match="sums/1: reward 'math' gave 3 token scores for a response of 2 tokens"):
        made(GRPO, graded)


def test_token_scores_that_are_not_there_are_named() -> None:
    with pytest.raises(UserError, match="sums/1: the algorithm asks for token scores, and reward 'math' gives none"):
        made(replace(GRPO, advantage="process"), group(1.0, 0.0))


def test_shapes_are_checked() -> None:
    with pytest.raises(UserError, match=r"returned \(1,\); return one number for each of 1 groups of 2"):
        made(replace(GRPO, advantage=lambda reward_PG: reward_PG.mean(1)), group(1.0, 0.0))
    short = replace(GRPO, objective=Asking(frozenset({"own"})), columns={"own": lambda group: [[0.0] for _ in group]})
    with pytest.raises(UserError, match=r"columns: own: returned shapes .*\(sums/1\); return one array \(T,\)"):
        made(short, group(1.0, 0.0))
