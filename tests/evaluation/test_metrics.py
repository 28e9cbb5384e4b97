"""Metrics by name: hand-computed numbers, those of one's own, and what is refused before anything is drawn."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest

from archer.errors import DataError, RecipeError, UserError
from archer.evaluation.benchmark import Benchmark
from archer.evaluation.difficulty import Difficulty, correlation, from_scores
from archer.evaluation.estimates import best_at_k, pass_at_k, rerun_sd, worst_at_k
from archer.evaluation.loaded import LoadedBenchmark
from archer.evaluation.metrics import METRICS
from archer.evaluation.named_metrics import bounds_of, find_metric, find_metrics, measured, metric_sources, score_bounds
from archer.evaluation.statistics import ANY_NUMBER, SHARES, mean_interval, paired_difference
from archer.recipe.config import typed
from archer.recipe.sections import DataSource
from archer.types import Problem, Result, Sampling

SCORES = ((0.25, 1.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0))
PASSED = ((False, True, False, True), (False, False, False, False))
REASONS = (("partial", "right", "wrong", "right"), ("wrong",) * 4)
ANSWERS = (("a", "b", "c", "b"), ("", "x", "x", "y"))
OWN = '''
from dataclasses import dataclass
import numpy as np

def spread(scores_PK, passed_PK, answers_PK):
    return scores_PK.max(axis=1) - scores_PK.min(axis=1)

@dataclass(frozen=True)
class Above:
    """Share of samples above a line."""
    line: float = 0.2
    title = "above"
    says = "share of scores above the line"
    bounds = (0.0, 1.0)
    better = "lower"
    def __call__(self, scores_PK, passed_PK, answers_PK):
        return (scores_PK > self.line).mean(axis=1)

strict = Above(0.9)
number = 7
def whole(scores_PK, passed_PK, answers_PK):
    return scores_PK.mean()
def broken(scores_PK, passed_PK, answers_PK):
    return answers_PK["x"]
'''


def result(scores: tuple[tuple[float, ...], ...] = SCORES, **changes: object) -> Result:
    same = {
        "label": "model", "seed": 0, "step": 0, "benchmark": "q", "sha256": "0" * 64, "sampling": Sampling(),
        "problems": ("q/1", "q/2"), "passed": PASSED, "reasons": REASONS, "stops": (("end",) * 4,) * 2,
        "tokens": ((1,) * 4,) * 2, "answers": ANSWERS, "seconds": 1.0, "provenance": {},
    }  # fmt: skip
    return Result(scores=scores, **{**same, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "title", "values"),
    [
        ("mean", "avg@4", [2.25 / 4, 0.0]),
        ("avg@k", "avg@4", [2.25 / 4, 0.0]),
        ("pass@k", "pass@4", [1.0, 0.0]),
        ("pass@2", "pass@2", [5 / 6, 0.0]),  # 1 - C(2,2)/C(4,2)
        ("maj@k", "maj@4", [1.0, 0.0]),  # the passed answer has two votes; x has two of three
        ("worst@k", "worst@4", [0.0, 0.0]),
        ("worst@2", "worst@2", [(3 * 0 + 2 * 0.25 + 1) / 6, 0.0]),  # 0, 0.25, 1, 1: the least of 6 pairs
        ("worst@1", "worst@1", [2.25 / 4, 0.0]),
        ("best@2", "best@2", [(0.25 + 2 * 1 + 3 * 1) / 6, 0.0]),
        ("best@k", "best@4", [1.0, 0.0]),
        ("std", "std@4", [math.sqrt((0.5625**2 + 0.3125**2 + 2 * 0.4375**2) / 3), 0.0]),
    ],
)
def test_every_metric_by_hand(name: str, title: str, values: list[float]) -> None:
    metric = find_metric(name)
    assert metric.title(4) == title
    assert metric.values(result()).tolist() == pytest.approx(values, abs=1e-15)


def test_of_right_and_wrong_the_worst_of_k_is_all_right_and_the_best_is_pass() -> None:
    right_PK = np.arange(6)[None, :] < np.arange(7)[:, None]
    for k in range(1, 7):
        all_right = [math.comb(count, k) / math.comb(6, k) for count in range(7)]
        assert worst_at_k(right_PK, k).tolist() == pytest.approx(all_right)
        assert best_at_k(right_PK, k) == pytest.approx(pass_at_k(right_PK, k))
    assert worst_at_k(np.ones((1, 2048)), 1024).tolist() == pytest.approx([1.0])  # does not overflow
    with pytest.raises(ValueError, match="worst@3 of 2 samples: k must be within 1 and 2"):
        worst_at_k([[0.5, 0.1]], 3)


def test_a_partial_score_does_not_count_as_solved() -> None:
    with pytest.raises(ValueError, match="pass@1 counts samples that pass or do not, not scores between 0 and 1"):
        pass_at_k(np.array([[0.1, 0.0]]), 1)  # type: ignore[arg-type]


def test_a_vote_of_answers_that_are_not_recorded_and_one_sample_s_spread_have_no_value() -> None:
    silent = result(answers=())
    assert np.isnan(find_metric("maj@k").values(silent)).all()
    assert math.isnan(measured(find_metric("maj@k"), silent).value)
    one = result(
        ((0.5,), (0.0,)), passed=((True,), (False,)), reasons=(("good",), ("wrong",)), stops=(("end",),) * 2,
        tokens=((1,),) * 2, answers=(),
    )  # fmt: skip
    assert np.isnan(find_metric("std").values(one)).all()


# ---- intervals of any score


def test_the_interval_of_scores_up_to_100_is_that_of_shares_times_100() -> None:
    share_SP = np.random.default_rng(3).random((2, 20))
    share, hundred = mean_interval(share_SP), mean_interval(100 * share_SP, bounds=(0.0, 100.0))
    assert (hundred.value, hundred.low, hundred.high) == pytest.approx(
        (100 * share.value, 100 * share.low, 100 * share.high)
    )
    free = mean_interval(100 * share_SP, bounds=ANY_NUMBER)
    assert (free.low, free.high) == (hundred.low, hundred.high)
    other_SP = np.random.default_rng(4).random((2, 20))
    gap = paired_difference([share_SP], [other_SP])
    wide = paired_difference([100 * share_SP], [100 * other_SP], bounds=ANY_NUMBER)
    assert (wide.value, wide.low, wide.high) == pytest.approx((100 * gap.value, 100 * gap.low, 100 * gap.high))
    assert wide.p == gap.p


def partial(rng: np.random.Generator, chance_P3: np.ndarray) -> np.ndarray:
    """Return 4 samples of each problem, 0, 0.25 or 1 with its chances."""
    at_PK = (rng.random((64, 4, 1)) > chance_P3.cumsum(axis=1)[:, None, :]).sum(axis=2).clip(0, 2)
    return np.array([0.0, 0.25, 1.0])[at_PK]


def test_intervals_of_partial_scores_cover_the_truth_and_equals_are_rarely_told_apart() -> None:
    rng, prior = np.random.default_rng(21), [0.5, 0.7, 0.4]
    truth = (0.25 * 0.7 + 1 * 0.4) / 1.6
    covered, told = [], []
    for _ in range(300):
        chance_P3 = rng.dirichlet(prior, 64)
        left_SP, right_SP = (partial(rng, chance_P3).mean(axis=1)[None] for _ in range(2))
        found = mean_interval(left_SP)
        covered.append(found.low <= truth <= found.high)
        told.append(paired_difference([left_SP], [right_SP]).tells_apart)
    assert 0.92 <= np.mean(covered) <= 0.98
    assert np.mean(told) <= 0.07


def test_problems_that_all_score_the_same_on_a_scale_nobody_knows_tell_nothing() -> None:
    same = np.full((1, 20), 34.5)
    found = mean_interval(same, bounds=ANY_NUMBER)
    assert found.value == 34.5
    assert math.isnan(found.low)
    gap = paired_difference([same], [same - 10], bounds=ANY_NUMBER)
    assert (gap.value, gap.p, gap.tells_apart) == (10.0, 1.0, False)
    # Of a scale up to 100: 1 - 0.025 ** (1 / 20) = 0.1684 of the problems may lie anywhere on it.
    known = mean_interval(same, bounds=(0.0, 100.0))
    assert (known.low, known.high) == pytest.approx((34.5 * (1 - 0.16843), 34.5 + 65.5 * 0.16843), abs=1e-3)
    with pytest.raises(ValueError, match="expected scores within 0 and 1"):
        mean_interval(same)


def test_a_scale_is_0_to_1_until_a_score_lies_outside() -> None:
    wide = result(((0.25, 1.5, 0.0, 1.0), (0.0,) * 4))
    assert (score_bounds([result()]), score_bounds([result(), wide])) == (SHARES, ANY_NUMBER)
    assert measured(find_metric("mean"), result()).low == 0.0
    assert measured(find_metric("mean"), wide).low < 0.0
    assert bounds_of([SHARES, (-1.0, 0.5)]) == (-1.0, 1.0)


def test_the_difficulty_of_scores_by_hand() -> None:
    """Means 0.5625 and 0, variances 0.265625 and 0: 0.1328 within; 0.1582 - 0.1328 / 4 = 0.125 between."""
    found = from_scores(SCORES)
    assert (found.mean, found.within) == pytest.approx((0.28125, 0.1328125))
    assert found.between == pytest.approx(0.5625**2 / 2 - 0.1328125 / 4)
    right = from_scores([[1.0, 0.0], [1.0, 1.0]])
    assert right == Difficulty(0.75, pytest.approx(0.0))
    assert right.sampled is None
    assert correlation(SCORES, SCORES) == 1.0
    assert rerun_sd(SCORES) == pytest.approx(math.sqrt(0.265625 / 4) / 2)


# ---- names


def benchmark(*metrics: str, samples: int = 4) -> Benchmark:
    return Benchmark("q", "Q", DataSource("q"), 2, "0" * 64, samples, "none", "nowhere", Sampling(), metrics=metrics)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (("pas@k",), r"q: metrics: no metric 'pas@k' \(did you mean 'pass@k'\?\); name one of your own as module:NAME"),
        (("pass@8",), "q: metrics: pass@8: draws 8 of 4 samples; raise samples or lower it"),
        (("pass@0",), "q: metrics: pass@0: draws no sample; write pass@k for all K"),
        (("maj@2",), "q: metrics: maj@2: maj@k is of all K samples; write maj@k"),
        (("./nowhere.py:spread",), r"q: metrics: .*nowhere\.py: no such file"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_with_the_benchmark(metrics: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        benchmark(*metrics)


def test_the_yaml_of_a_benchmark_names_its_metrics() -> None:
    values = {
        "name": "q", "title": "Q", "data": {"name": "q"}, "problems": 2, "sha256": "0" * 64, "samples": 4,
        "licence": "none", "source": "nowhere",
    }  # fmt: skip
    assert typed(Benchmark, values, "q.yaml").metrics == ("mean", "pass@k")
    asked = typed(Benchmark, {**values, "metrics": ["worst@2", "mean", "std"]}, "q.yaml")
    assert [metric.title("K") for metric in find_metrics(asked.metrics)] == ["avg@K", "worst@2", "std@K"]  # mean first
    with pytest.raises(DataError, match="did you mean 'worst@k'"):
        typed(Benchmark, {**values, "metrics": ["wurst@k"]}, "q.yaml")
    with pytest.raises(RecipeError, match="q.yaml: metrics: "):
        typed(Benchmark, {**values, "metrics": "mean"}, "q.yaml")


def test_a_curve_of_fewer_samples_shows_the_mean() -> None:
    problems = tuple(Problem(f"q/{n}", "q", "", "math", "1") for n in (1, 2))
    whole = LoadedBenchmark(benchmark("pass@4"), problems)
    assert whole.part(1, 4).benchmark.metrics == ("pass@4",)
    assert whole.part(1, 2).benchmark.metrics == ("mean",)


def test_metrics_of_one_s_own(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    names = (f"{path}:spread", f"{path}:Above", "pass@k")
    asked = benchmark(*names)
    mean, spread, above, solved = find_metrics(asked.metrics)
    assert [one.title(4) for one in (mean, spread, above, solved)] == ["avg@4", "spread@4", "above@4", "pass@4"]
    assert spread.values(result()).tolist() == [1.0, 0.0]
    assert above.values(result()).tolist() == [0.75, 0.0]
    assert find_metric(f"{path}:strict").values(result()).tolist() == [0.5, 0.0]
    assert (spread.better, above.better) == ("higher", "lower")
    assert measured(above, result()).low == 0.0
    assert metric_sources(names) == {"metrics": {name: hashlib.sha256(OWN.encode()).hexdigest() for name in names[:2]}}
    assert metric_sources(METRICS) == {}
    assert metric_sources(["pass@8"]) == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("whole", r"own\.py:whole: returned the shape \(\) for a trial of 2 problems x 4 samples"),
        ("broken", r"own\.py:broken: raised TypeError.* on a trial of 2 problems x 4 samples"),
        ("number", r"own\.py:number: is 7, expected a function or what can be called"),
        ("spred", "own.py:spred: no 'spred' there \\(did you mean 'spread'\\?\\)"),
    ],
)
def test_one_of_one_s_own_that_does_not_work_is_refused_before_anything_is_drawn(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(DataError, match=message):
        benchmark(f"{tmp_path}/own.py:{name}")


def test_two_metrics_cannot_be_one_column(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(
        DataError, match=r"own\.py:Above and .*own\.py:strict are both called 'above'; give one a title"
    ):
        benchmark(f"{tmp_path}/own.py:Above", f"{tmp_path}/own.py:strict")
    assert len(find_metrics(("mean", "avg@k", "pass@k", "pass@k"))) == 2


def test_a_metric_of_one_s_own_that_fails_on_a_result_names_it(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "def picky(scores_PK, passed_PK, answers_PK):\n    return scores_PK[:, 0] * {'a': 1}[answers_PK[0][0]]\n"
    )
    with pytest.raises(UserError, match=r"own\.py:picky: raised KeyError.* on q of 2 problems x 4 samples"):
        find_metric(f"{path}:picky").values(result(answers=(("z",) * 4,) * 2))
