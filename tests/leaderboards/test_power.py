"""What a benchmark can see: against simulated studies, and by hand where nothing but sampling is chance."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from archer.errors import DataError, UserError
from archer.evaluation.benchmark import read_benchmark
from archer.evaluation.difficulty import Difficulty
from archer.leaderboards import power as module
from archer.leaderboards.power import PowerSetting, effect, report, setting
from archer.runs.results import read_result, write_result
from archer.system import suite
from archer.types import Result, Sampling

UNIFORM = Difficulty(0.5, 1 / 12)  # beta(1, 1): 1/6 within
ALIKE = 0.6


def chances(rng: np.random.Generator, studies: int, problems: int, difference: float) -> list[np.ndarray]:
    """Return two models' chances, uniform around 1/2 and correlated by ALIKE, the second's mean shifted.

    The shift has the shape 6 p (1 - p), whose mean is one, so that chances stay within 0 and 1.
    """
    left, own = rng.random((2, studies, problems))
    right = np.where(rng.random((studies, problems)) < ALIKE, left, own)
    return [left, right + difference * 6 * right * (1 - right)]


def power(way: str, setting: PowerSetting, difference: float) -> float:
    """Return the share of simulated studies in which a t-test finds the difference."""
    rng = np.random.default_rng(1)
    both = chances(rng, 4000, setting.problems, difference)
    if way == "unpaired":
        both[0] = chances(rng, 4000, setting.problems, 0.0)[0]
    left, right = (rng.binomial(setting.samples, chance) / setting.samples for chance in both)
    test = stats.ttest_rel if way == "paired" else stats.ttest_ind
    return float(np.mean(test(left, right, axis=1).pvalue < 0.05))


@pytest.mark.parametrize("way", ["paired", "unpaired"])
@pytest.mark.parametrize(("problems", "samples"), [(60, 8), (200, 4)])
def test_the_smallest_difference_is_found_in_80_of_100_studies(way: str, problems: int, samples: int) -> None:
    one = PowerSetting("x", problems, samples, UNIFORM, ALIKE, "")
    assert power(way, one, one.smallest(way)) == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("way", ["paired", "unpaired"])
def test_as_many_problems_as_are_said_find_the_difference(way: str) -> None:
    one = PowerSetting("x", 60, 8, UNIFORM, ALIKE, "")
    enough = PowerSetting("x", int(one.problems_for(way, 0.06)), 8, UNIFORM, ALIKE, "")
    assert power(way, enough, 0.06) == pytest.approx(0.8, abs=0.04)


def test_as_many_samples_as_are_said_find_the_difference_or_none_do() -> None:
    one = PowerSetting("x", 200, 1, UNIFORM, ALIKE, "")
    samples = int(one.samples_for("paired", 0.07))
    assert samples > 1
    enough = PowerSetting("x", 200, samples, UNIFORM, ALIKE, "")
    assert power("paired", enough, 0.07) == pytest.approx(0.8, abs=0.04)
    assert one.samples_for("paired", 0.02) == math.inf
    assert one.samples_for("unpaired", 0.07) == math.inf


def test_sampling_alone_by_hand() -> None:
    """SD of a difference: sqrt(2 x (1/6) / (16 x 100)) = 0.01443; power 0.8 at 5 %: 1.95996 + 0.84162 of it."""
    one = PowerSetting("x", 100, 16, UNIFORM, ALIKE, "")
    assert one.smallest("same problems") == pytest.approx(0.01443376 * 2.80158, rel=1e-3)
    assert one.problems_for("same problems", one.smallest("same problems")) in (100, 101)
    assert one.samples_for("same problems", one.smallest("same problems")) in (16, 17)


@pytest.mark.parametrize(("way", "size"), [("paired", 2.80), ("unpaired", 3.96), ("same problems", 3.96)])
def test_the_smallest_difference_of_many_problems_by_hand(way: str, size: float) -> None:
    """1.95996 + 0.84162 of the SD of a mean over 1319 problems, or of a difference of two."""
    assert effect(way, 1319) == pytest.approx(size / math.sqrt(1319), rel=2e-3)


def test_a_large_difference_needs_no_fewer_than_two_problems() -> None:
    assert PowerSetting("x", 100, 1000, Difficulty(0.5, 0.001), 0.9, "").problems_for("paired", 0.9) == 2


def test_difficulties_come_from_stored_results_then_from_print() -> None:
    lab = setting(read_benchmark("lab-code"))
    assert (lab.problems, lab.samples, lab.source) == (96, 16, "10 stored results")
    assert 0.9 < lab.alike <= 1
    aime = setting(read_benchmark("aime24"))
    assert aime.source == "published scores; r assumed"
    # What is said of AIME24 at avg@64: about 14 points over problems, about 0.7 when sampled anew.
    assert 13 < 196 * aime.difficulty.spread(30, 64) < 15
    assert 0.6 < 100 * aime.difficulty.rerun(30, 64) < 0.8


def put(folder: Path, name: str, **changes: object) -> None:
    """Write a recorded result of lab-code, changed, as ``./results/<name>.json``."""
    kept = suite("leaderboards") / "lab" / "base" / "results" / "lab-code.json"
    write_result(replace(read_result(kept), **changes), folder / "results" / f"{name}.json")  # type: ignore[arg-type]


def test_what_does_not_belong_is_left_out_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "judged", label="other", verifier={"code": "of another version"})
    put(tmp_path, "drawn", label="hot", sampling=Sampling(temperature=0.5, max_tokens=192))
    put(tmp_path, "mine", label="mine")
    (tmp_path / "results" / "foreign.json").write_text("{}")
    found = setting(read_benchmark("lab-code"))
    assert found.source == "11 stored results"
    first, second = found.left_out
    assert "lab-code: 2 stored results left out; results/drawn.json: drawn with Sampling(temperature=0.5" in first
    assert "1 files are no results; results/foreign.json: not a result" in second
    assert "2 stored results left out" in report(0.02, ["lab-code"])


@pytest.mark.parametrize(("right", "reason"), [(True, "right"), (False, "wrong")])
def test_results_all_right_or_all_wrong_tell_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: bool, reason: str
) -> None:
    one = read_benchmark("gsm8k")
    problems, samples = one.problems, 2
    shaped = {"passed": right, "reasons": reason, "stops": "end", "tokens": 1}
    flat = Result(
        label="sure", seed=0, step=0, benchmark="gsm8k", sha256=one.sha256, sampling=one.sampling, seconds=1.0,
        problems=tuple(map(str, range(problems))), provenance={},
        **{name: ((value,) * samples,) * problems for name, value in shaped.items()},
    )  # fmt: skip
    monkeypatch.setattr(module, "stored", lambda name: ([flat], ()))
    monkeypatch.chdir(tmp_path)
    found = setting(one)
    assert found.difficulty == module.DEFAULT
    assert found.source == "assumed; of 1 stored results 1 are all right or all wrong: nothing told"
    assert "nothing told" in report(0.02, ["gsm8k"])


def test_problems_that_are_solved_always_or_never_need_no_more_samples() -> None:
    """Nothing within a problem: one sample is enough, and on the same problems any difference is seen."""
    one = PowerSetting("x", 100, 4, Difficulty(0.5, 0.25), 0.0, "")
    assert (one.problems_for("same problems", 0.01), one.samples_for("same problems", 0.01)) == (2, 1)
    assert one.smallest("same problems") == 0


def test_the_report_fits_a_terminal_and_names_every_benchmark() -> None:
    text = report(0.02, ["paper-math", "lab-code"])
    assert max(map(len, text.splitlines())) <= 100
    for part in ("aime24 30 x 64", "olympiadbench", "lab-code 96 x 16", "mean of 7", "never", "for 2", "same problems"):
        assert part in text
    assert "…" not in text


def test_senseless_questions_are_refused() -> None:
    with pytest.raises(UserError, match=r"archer power 2: give a difference in accuracy between 0 and 1"):
        report(2, ["lab-code"])
    with pytest.raises(DataError, match="'aime2024'.*did you mean 'aime24'"):
        report(0.02, ["aime2024"])
