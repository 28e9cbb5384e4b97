"""Scores against hand-computed numbers; intervals by simulating studies whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from archer.evaluation.estimates import avg_at_k, maj_at_k, pass_at_k, pass_curve, rerun_sd, votable
from archer.evaluation.statistics import Array, holm, mean_interval, paired_difference

STUDIES = 400  # the standard error of a coverage of 95 % is 1.1 points


def test_avg_at_k_is_the_share_of_right_samples() -> None:
    outcomes_PK = [[True, False, False, False], [True, True, True, False], [False] * 4]
    assert avg_at_k(outcomes_PK).tolist() == [0.25, 0.75, 0.0]


@pytest.mark.parametrize(
    ("right", "k", "expected"),
    [
        (0, 2, 0.0),
        (1, 1, 0.25),
        (1, 2, 0.5),  # 1 - C(3,2)/C(4,2) = 1 - 3/6
        (2, 2, 5 / 6),  # 1 - C(2,2)/C(4,2) = 1 - 1/6
        (3, 2, 1.0),  # two wrong ones cannot be drawn
        (1, 3, 0.75),  # 1 - C(3,3)/C(4,3) = 1 - 1/4
        (1, 4, 1.0),
        (4, 1, 1.0),
    ],
)
def test_pass_at_k_counts_draws_without_replacement(right: int, k: int, expected: float) -> None:
    outcomes_PK = [[sample < right for sample in range(4)]]
    assert pass_at_k(outcomes_PK, k).tolist() == pytest.approx([expected], abs=1e-15)


def test_pass_at_one_is_avg_and_large_samples_do_not_overflow() -> None:
    outcomes_PK = np.arange(2048)[None, :] < np.array([[1], [1000]])
    assert pass_at_k(outcomes_PK, 1) == pytest.approx(avg_at_k(outcomes_PK))
    assert pass_at_k(outcomes_PK, 1024) == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("k", [0, 3])
def test_pass_at_k_refuses_more_draws_than_samples(k: int) -> None:
    with pytest.raises(ValueError, match=f"pass@{k} of 2 samples"):
        pass_at_k([[True, False]], k)


def test_the_curve_holds_pass_at_k_for_every_k() -> None:
    outcomes_PK = [[True, False, False, False], [True, True, False, False]]
    # 1 of 4 right: 1/4, 2/4, 3/4, 1; 2 of 4: 1/2, 5/6, 1, 1
    assert pass_curve(outcomes_PK).tolist() == pytest.approx([3 / 8, 2 / 3, 7 / 8, 1.0])


@pytest.mark.parametrize(
    ("outcomes", "answers", "expected"),
    [
        ([1, 1, 0, 0], ["1/2", "0.5", "3", "4"], 1.0),  # right answers are one, however they are written
        ([1, 1, 0, 0], ["7", "7", "3", " 3"], 0.5),  # two against two
        ([1, 0, 0, 0], ["7", "3", "3", "4"], 0.0),
        ([1, 0, 0, 0], ["7", "3", "4", "5"], 0.25),  # all alone
        ([1, 0, 0, 0], ["7", "", "", ""], 1.0),  # no answer has no vote
        ([0, 0, 0, 0], ["", "", "", ""], 0.0),
        ([0, 0, 0, 0], ["3", "3", "4", ""], 0.0),
    ],
)
def test_majority_by_hand(outcomes: list[int], answers: list[str], expected: float) -> None:
    assert maj_at_k([[bool(one) for one in outcomes]], [answers]).tolist() == [expected]


def test_a_majority_needs_the_answers_of_right_samples() -> None:
    with pytest.raises(ValueError, match="needs the answer of every right sample"):
        maj_at_k([[True, False]], [["", "3"]])


@pytest.mark.parametrize(
    ("outcomes", "answers", "told"),
    [
        ([[True, False]], [["7", "3"]], True),
        ([[True, False]], [["7", ""]], True),  # no answer has no vote
        ([[True, False]], [["", "3"]], False),  # which vote the right sample cast is not recorded
        ([[False, False]], [["", ""]], False),  # programs
        ([[True]], [["7"]], False),  # of one sample there is no majority
        ([[True, False]], [], False),
    ],
)
def test_what_votes_can_be_told_of(outcomes: list[list[bool]], answers: list[list[str]], told: bool) -> None:
    assert votable(outcomes, answers) is told


def test_rerun_sd_by_hand_and_by_sampling_anew() -> None:
    # p is 1/2 and 1: sqrt(1/4 / (2 - 1)) / 2
    assert rerun_sd([[True, False], [True, True]]) == pytest.approx(0.25)
    assert np.isnan(rerun_sd([[True], [False]]))
    rng = np.random.default_rng(6)
    chance_P = rng.beta(0.6, 0.6, 30)
    runs = rng.random((4000, 30, 8)) < chance_P[:, None]
    seen = runs.mean(axis=(1, 2)).std()
    told = np.sqrt(np.mean([rerun_sd(run) ** 2 for run in runs[:500]]))
    assert told == pytest.approx(seen, rel=0.03)


def test_contests_whose_problems_agree_count_as_one_problem_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three contests of two equal problems each: as wide as three problems, of which two are drawn."""
    monkeypatch.setattr("archer.evaluation.resampling.FEWEST", 3)
    value_SP, names = np.array([[0.0, 0.0, 0.5, 0.5, 1.0, 1.0]]), list("aabbcc")
    found = mean_interval(value_SP, clusters=[names])
    assert (found.value, found.problems) == (0.5, 6)
    assert (found.low, found.high) == (0.0, 1.0)  # the 2.5 % tail is twice the same extreme contest, 1 in 9
    narrow = mean_interval(0.5 + (value_SP - 0.5) / 10, clusters=[names])
    assert narrow.low == pytest.approx(0.5 - 0.05 * 4.30265 / 1.95996, abs=1e-5)  # Student's t, 2 degrees of freedom
    assert mean_interval(value_SP).high < 1.0


def test_names_that_no_two_problems_share_change_nothing() -> None:
    value_SP = np.random.default_rng(7).random((2, 12))
    own = mean_interval(value_SP)
    assert mean_interval(value_SP, clusters=[[f"contest-{n}" for n in range(12)]]) == own
    assert mean_interval(value_SP, clusters=[[""] * 12]) == own
    assert mean_interval(value_SP, clusters=[[]]) == own


def test_four_contests_are_too_few_and_missing_names_are_refused() -> None:
    value_SP = np.random.default_rng(7).random((2, 12))
    assert mean_interval(value_SP, clusters=[list("abcd") * 3]) == mean_interval(value_SP)
    assert mean_interval(value_SP, clusters=[[*"abcd", *"abcde", *"abc"]]) != mean_interval(value_SP)
    with pytest.raises(ValueError, match="1 names of clusters for 2 problems"):
        mean_interval(np.array([[0.5, 0.7]]), clusters=[["a"]])


def test_contests_that_score_alike_though_their_problems_do_not() -> None:
    """Five contests, each 3 of 6: what is drawn never varies; 1 - 0.025 ** (1 / 5) = 0.5218 of 0.5 either way."""
    score_SP = np.array([[1.0, 1, 1, 0, 0, 0] * 5])
    names = [name for name in "abcde" for _ in range(6)]
    found = mean_interval(score_SP, clusters=[names])
    assert (found.low, found.high) == pytest.approx((0.5 - 0.5218 * 0.5, 0.5 + 0.5218 * 0.5), abs=1e-4)
    gap = paired_difference([score_SP], [np.zeros((1, 30))], [names])
    assert gap.p == pytest.approx(2 * 1.5**-5)  # and not 0.0002
    assert not gap.tells_apart


def test_contests_that_all_score_alike_do_not_claim_more_than_their_number() -> None:
    solved = mean_interval(np.ones((1, 20)), clusters=[list("abcdefghij") * 2])
    assert solved.low == pytest.approx(0.025**0.1)


@pytest.mark.parametrize(
    ("problems", "samples", "a", "b"), [(30, 64, 0.27, 0.28), (30, 64, 0.6, 0.6), (64, 16, 0.6, 0.6)]
)
def test_intervals_of_beta_binomial_scores_cover_the_truth(problems: int, samples: int, a: float, b: float) -> None:
    rng = np.random.default_rng(11)
    scores = [rng.binomial(samples, rng.beta(a, b, problems))[None] / samples for _ in range(1000)]
    found = [mean_interval(one) for one in scores]
    assert 0.93 <= np.mean([one.low <= a / (a + b) <= one.high for one in found]) <= 0.96


@pytest.mark.parametrize("contests", [16, 32])
def test_intervals_over_contests_cover_the_truth_and_those_over_problems_do_not(contests: int) -> None:
    rng = np.random.default_rng(12)
    clustered, plain = [], []
    for study in range(1000):
        sizes_C = rng.integers(1, 7, contests)
        shared_P, names = np.repeat(rng.beta(0.6, 0.6, contests), sizes_C), np.repeat(np.arange(contests), sizes_C)
        chance_P = np.where(rng.random(len(names)) < 0.7, shared_P, rng.beta(0.6, 0.6, len(names)))
        score_SP = rng.binomial(16, chance_P)[None] / 16
        clustered.append(mean_interval(score_SP, clusters=[[str(name) for name in names]]))
        if study < 100:
            plain.append(mean_interval(score_SP))
    assert 0.93 <= np.mean([one.low <= 0.5 <= one.high for one in clustered]) <= 0.96
    assert np.mean([one.low <= 0.5 <= one.high for one in plain]) < 0.9


def study(rng: np.random.Generator, seeds: int, seed_spread: float, problem_spread: float) -> list[Array]:
    """Two algorithms on 64 problems x 16 samples: beta problems, shifted by algorithm x problem and by seed.

    The shifts vanish at 0 and 1, so the mean over problems and seeds stays 0.5.
    """
    chance_P = rng.beta(0.6, 0.6, 64)
    room_P = 4 * chance_P * (1 - chance_P)
    matrices = []
    for _ in range(2):
        shift_SP = rng.normal(0, seed_spread, (seeds, 1)) + rng.normal(0, problem_spread, 64)
        chance_SP = np.clip(chance_P + shift_SP * room_P, 0, 1)
        matrices.append(rng.binomial(16, chance_SP) / 16)
    return matrices


@pytest.mark.parametrize(("seeds", "seed_spread"), [(1, 0.0), (3, 0.02), (3, 0.05)])
def test_interval_of_a_mean_covers_the_truth_in_95_of_100_studies(seeds: int, seed_spread: float) -> None:
    rng = np.random.default_rng(1)
    found = [mean_interval(study(rng, seeds, seed_spread, 0.0)[0]) for _ in range(STUDIES)]
    assert 0.93 <= np.mean([one.low <= 0.5 <= one.high for one in found]) <= 0.97


@pytest.mark.parametrize(
    ("seeds", "seed_spread", "least"), [(1, 0.0, 0.93), (2, 0.06, 0.9), (3, 0.02, 0.93), (3, 0.06, 0.93)]
)
def test_equal_algorithms_are_told_apart_in_few_studies(seeds: int, seed_spread: float, least: float) -> None:
    rng = np.random.default_rng(2)
    pairs = [study(rng, seeds, seed_spread, 0.1) for _ in range(STUDIES)]
    told = [paired_difference([left], [right]).tells_apart for left, right in pairs]
    assert np.mean(told) <= 1 - least


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(3)
    left, right = study(rng, 3, 0.02, 0.05)
    found = paired_difference([np.minimum(left + 0.25, 1)], [right])
    assert found.tells_apart
    assert found.value > 0.1
    assert found.p < 0.01
    back = paired_difference([right], [np.minimum(left + 0.25, 1)])
    assert back == found.mirrored()
    assert back.tells_apart
    assert back.high < 0


def test_p_is_at_most_5_percent_exactly_when_the_interval_excludes_zero() -> None:
    rng = np.random.default_rng(4)
    told = 0
    for shift in np.linspace(-0.12, 0.12, 49):
        left, right = study(rng, 2, 0.02, 0.05)
        found = paired_difference([np.clip(left + shift, 0, 1)], [right])
        assert found.tells_apart == (found.p <= 0.05), found
        told += int(found.tells_apart)
    assert 0 < told < 49


def test_two_seeds_widen_by_students_t() -> None:
    """Problems all alike, seeds 0.4 and 0.6: one seed is drawn, 0.1 from the mean, at 1 degree of freedom."""
    value_SP = np.array([[0.4] * 8, [0.6] * 8])
    found = mean_interval(value_SP)
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == (0.0, 1.0)  # 0.5 -+ 0.1 x 12.706 / 1.960, within [0, 1]
    near = mean_interval(0.5 + 0.1 * (value_SP - 0.5))
    assert near.low == pytest.approx(0.5 - 0.01 * 12.7062 / 1.95996, abs=1e-5)


def test_one_seed_says_nothing_about_seeds() -> None:
    found = mean_interval(np.array([[0.0, 1.0, 0.5, 0.5]]))
    assert (found.value, found.seeds, found.problems) == (0.5, 1, 4)
    assert found.low < 0.5 < found.high


def test_one_problem_has_no_interval() -> None:
    found = paired_difference([np.array([[1.0]])], [np.array([[0.0]])])
    assert found.value == 1.0
    assert np.isnan(found.low)
    assert np.isnan(found.high)
    assert not found.tells_apart
    assert found.p == 1.0


def test_several_benchmarks_count_equally_and_each_resamples_its_own_problems() -> None:
    first, second = np.array([[0.0, 1.0] * 8]), np.full((1, 4), 0.8)
    both = mean_interval(first, second)
    assert both.value == pytest.approx(0.65)
    assert both.problems == 20
    alone = mean_interval(first)
    assert both.high - both.low == pytest.approx((alone.high - alone.low) / 2, rel=0.05)


def test_a_single_seed_is_set_against_every_seed_of_the_other() -> None:
    base = np.array([[0.1, 0.2, 0.3]])
    trained = np.array([[0.5, 0.5, 0.5], [0.7, 0.7, 0.7]])
    found = paired_difference([trained], [base])
    assert found.value == pytest.approx(0.4)
    assert found.seeds == 2


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (np.full((2, 3), 0.5), np.full((3, 3), 0.5), "cannot pair 2 seeds with 3"),
        (np.full((1, 3), 0.5), np.full((1, 4), 0.5), "the same problems"),
        (np.full((1, 3), 1.5), np.full((1, 3), 0.5), "scores within 0 and 1"),
        (np.full(3, 0.5), np.full(3, 0.5), "matrices of seeds x problems"),
    ],
)
def test_what_cannot_be_paired_is_refused(left: Array, right: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_difference([left], [right])


def test_the_same_scores_give_the_same_interval() -> None:
    value_SP = np.random.default_rng(5).random((3, 20))
    assert mean_interval(value_SP) == mean_interval(value_SP.copy())


def test_problems_that_are_all_alike_do_not_claim_certainty() -> None:
    solved = mean_interval(np.ones((2, 64)))
    assert (solved.value, solved.high) == (1.0, 1.0)
    assert solved.low == pytest.approx(0.025 ** (1 / 64)) == pytest.approx(0.944, abs=5e-4)
    unsolved = mean_interval(np.zeros((1, 10)))
    assert unsolved.low == 0.0
    assert unsolved.high == pytest.approx(0.3085, abs=5e-5)


def test_a_constant_difference_by_hand() -> None:
    same = np.full((2, 20), 0.3)
    equal = paired_difference([same], [same])
    assert (equal.value, equal.p, equal.tells_apart) == (0.0, 1.0, False)
    assert -equal.low == equal.high == pytest.approx(1 - 0.025 ** (1 / 20))
    for problems, told in ((9, False), (10, True)):  # 2 x 1.5 ** -9 = 0.052, 2 x 1.5 ** -10 = 0.035
        found = paired_difference([np.full((1, problems), 0.5)], [np.zeros((1, problems))])
        assert found.tells_apart == told == (found.p <= 0.05)
        assert found.p == pytest.approx(2 * 1.5**-problems)


def test_equals_that_vary_are_not_told_apart() -> None:
    left = np.array([[0.2, 0.8, 0.2, 0.8]])
    found = paired_difference([left], [left[:, ::-1]])
    assert found.value == 0.0
    assert found.p == 1.0
    assert found.low == pytest.approx(-found.high)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
