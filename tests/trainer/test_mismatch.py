"""Engine against policy: the figures by hand, the corrections by hand, and when a run stops."""

from __future__ import annotations

from dataclasses import replace
from math import e, log

import pytest
import torch

from archer.errors import EngineError
from archer.recipe.options import Correction
from archer.trainer.batch import Response
from archer.trainer.mismatch import corrected, describe, judge, measures, weights

# Ratios policy to engine: 1, 2, 1/2, 8.
ONE = Response(
    prompt=(1,), tokens=(2, 3, 4, 5), advantage=1.0,
    old_logp_T=torch.tensor([-1.0, -1.0 + log(2), -1.0 - log(2), -1.0 + log(8)]), entropy_T=torch.ones(4),
    engine_logp_T=torch.full((4,), -1.0),
)  # fmt: skip


def test_the_figures_by_hand() -> None:
    found = describe([(ONE,)])
    assert found["mismatch/k1"] == pytest.approx(-log(8) / 4)
    # k3 = mean of r - log r - 1: 0, 1 - log 2, log 2 - 1/2, 7 - log 8
    assert found["mismatch/k3"] == pytest.approx((7.5 - log(8)) / 4)
    assert found["mismatch/largest"] == pytest.approx(8.0)


def test_one_log_prob_below_the_engines_has_ratio_e() -> None:
    assert measures(torch.tensor([-1.0])) == pytest.approx(
        {"mismatch/k1": 1.0, "mismatch/k3": 1 / e, "mismatch/largest": e}
    )


def test_an_engine_that_is_the_policy_is_not_measured() -> None:
    own = replace(ONE, engine_logp_T=None)
    assert describe([(own, own)]) == {}
    assert weights(own, Correction(kind="truncate")).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        (Correction(kind="truncate", high=2.0), [1.0, 2.0, 0.5, 2.0]),
        (Correction(kind="mask", high=2.5), [1.0, 2.0, 0.5, 0.0]),
        (Correction(kind="icepop", low=0.6, high=2.5), [1.0, 2.0, 0.0, 0.0]),
        (Correction(kind="truncate", high=3.0, level="sequence"), [3.0] * 4),  # 1 x 2 x 1/2 x 8 = 8
        (Correction(kind="mask", high=9.0, level="sequence"), [8.0] * 4),
        (Correction(kind="icepop", high=7.0, level="sequence"), [0.0] * 4),
    ],
)
def test_corrections_by_hand(correction: Correction, expected: list[float]) -> None:
    assert weights(ONE, correction).tolist() == pytest.approx(expected)
    assert corrected([(ONE,)], correction)[0][0].correction_T.tolist() == pytest.approx(expected)


def test_no_correction_leaves_the_groups_as_they_are() -> None:
    assert corrected([(ONE,)], Correction())[0][0].correction_T is None


def test_a_run_warns_then_stops() -> None:
    correction = Correction(warn=1e-3, stop=0.1)
    assert judge({"mismatch/k3": 1e-4, "mismatch/largest": 1.1}, correction, 7) == ""
    assert judge({}, correction, 7) == ""
    said = judge({"mismatch/k3": 0.05, "mismatch/largest": 3.0}, correction, 7)
    assert said == (
        "step 7: engine and policy disagree: k3 5.00e-02 a token, largest ratio 3, above rollout.correction.warn 0.001"
    )
    for bad in (0.2, float("nan")):
        with pytest.raises(EngineError, match=r"step 7: .* above rollout.correction.stop 0.1; the engine has other"):
            judge({"mismatch/k3": bad, "mismatch/largest": 3.0}, correction, 7)
