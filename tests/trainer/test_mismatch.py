"""Engine against policy: the figures by hand, the corrections by hand, and when a run stops."""

from __future__ import annotations

from math import e, log

import pytest
import torch

from archer.errors import EngineError
from archer.recipe.sections import CorrectionSection
from archer.trainer.batch import TrainSample
from archer.trainer.mismatch import (
    apply_importance_weights,
    check_mismatch,
    importance_weights,
    measure_mismatch,
    mismatch_metrics,
)

# Ratios policy to engine: 1, 2, 1/2, 8.
ONE = TrainSample.of(
    prompt=(1,), tokens=(2, 3, 4, 5), advantage=1.0,
    old_logp=torch.tensor([-1.0, -1.0 + log(2), -1.0 - log(2), -1.0 + log(8)]), entropy=torch.ones(4),
    engine_logp=torch.full((4,), -1.0),
)  # fmt: skip


def test_the_figures_by_hand() -> None:
    found = measure_mismatch([(ONE,)])
    assert found["mismatch/k1"] == pytest.approx(-log(8) / 4)
    # k3 = mean of r - log r - 1: 0, 1 - log 2, log 2 - 1/2, 7 - log 8
    assert found["mismatch/k3"] == pytest.approx((7.5 - log(8)) / 4)
    assert found["mismatch/largest"] == pytest.approx(8.0)


def test_one_log_prob_below_the_engines_has_ratio_e() -> None:
    assert mismatch_metrics(torch.tensor([-1.0])) == pytest.approx(
        {"mismatch/k1": 1.0, "mismatch/k3": 1 / e, "mismatch/largest": e}
    )


def test_an_engine_that_is_the_policy_is_not_measured() -> None:
    own = ONE.without("engine_logp")
    assert measure_mismatch([(own, own)]) == {}
    assert importance_weights(own, CorrectionSection(kind="truncate")).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        (CorrectionSection(kind="truncate", high=2.0), [1.0, 2.0, 0.5, 2.0]),
        (CorrectionSection(kind="mask", high=2.5), [1.0, 2.0, 0.5, 0.0]),
        (CorrectionSection(kind="icepop", low=0.6, high=2.5), [1.0, 2.0, 0.0, 0.0]),
        (CorrectionSection(kind="truncate", high=3.0, level="sequence"), [3.0] * 4),  # 1 x 2 x 1/2 x 8 = 8
        (CorrectionSection(kind="mask", high=9.0, level="sequence"), [8.0] * 4),
        (CorrectionSection(kind="icepop", high=7.0, level="sequence"), [0.0] * 4),
    ],
)
def test_corrections_by_hand(correction: CorrectionSection, expected: list[float]) -> None:
    assert importance_weights(ONE, correction).tolist() == pytest.approx(expected)
    assert apply_importance_weights([(ONE,)], correction)[0][0]["correction"].tolist() == pytest.approx(expected)


def test_no_correction_leaves_the_groups_as_they_are() -> None:
    assert "correction" not in apply_importance_weights([(ONE,)], CorrectionSection())[0][0].columns


def test_a_run_warns_then_stops() -> None:
    correction = CorrectionSection(warn=1e-3, stop=0.1)
    assert check_mismatch({"mismatch/k3": 1e-4, "mismatch/largest": 1.1}, correction, 7) == ""
    assert check_mismatch({}, correction, 7) == ""
    said = check_mismatch({"mismatch/k3": 0.05, "mismatch/largest": 3.0}, correction, 7)
    assert said == (
        "step 7: engine and policy disagree: k3 5.00e-02 a token, largest ratio 3, above rollout.correction.warn 0.001"
    )
    for bad in (0.2, float("nan")):
        with pytest.raises(EngineError, match=r"step 7: .* above rollout.correction.stop 0.1; the engine has other"):
            check_mismatch({"mismatch/k3": bad, "mismatch/largest": 3.0}, correction, 7)
