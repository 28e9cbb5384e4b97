"""Golden cases of rivals: the file is as its README says, and what we have of them equals the reference."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from helpers.golden import AVERAGES, FOLDER, column, committed_cases, golden_cases, reduced, tokens_of

from archer.algorithms.advantages import ADVANTAGES
from archer.algorithms.grpo import Grpo
from archer.algorithms.tokens import Tokens
from archer.recipe.sections import CorrectionSection
from archer.trainer.batch import TrainSample
from archer.trainer.mismatch import importance_weights

KINDS = {"tis": "truncate", "icepop": "icepop"}


def test_rivals_are_those_that_their_readme_names() -> None:
    cases = committed_cases("rivals")
    families = {case["family"] for case in cases}
    assert (len(cases), len(families), len({case["name"] for case in cases})) == (158, 61, 158)
    readme = (FOLDER / "README.md").read_text()
    assert "| 158 cases in 61 families |" in readme
    rows = re.findall(r"^\| ([a-z0-9_, ]+) \|", readme[readme.index("| families |") :], re.MULTILINE)
    assert sorted(name for row in rows[1:] for name in row.split(", ")) == sorted(families)


def corrected(case: dict, tokens: Tokens) -> Tokens:
    """Return the tokens with the importance weights of the case on their advantages."""
    (level, kind), bounds = case["config"]["correction"].split(), case["config"]["bounds"].split("_")
    correction = CorrectionSection(KINDS[kind], level, low=float(bounds[0]), high=float(bounds[-1]))  # type: ignore[arg-type]
    weight_BT = torch.zeros_like(tokens.old_logp_BT)
    for row, mask_T in enumerate(tokens.mask_BT):
        own = (one[row][mask_T] for one in (tokens.old_logp_BT, column(case, "engine_log_probs")))
        old_logp_T, engine_logp_T = own
        one = TrainSample.of((1,), [0] * len(old_logp_T), old_logp=old_logp_T, engine_logp=engine_logp_T)
        weight_BT[row, mask_T] = importance_weights(one, correction)
    return replace(tokens, advantage_BT=tokens.advantage_BT * weight_BT)


@pytest.mark.parametrize("case", golden_cases("rivals", ("two_sided", "dapo_corrected")), ids=lambda case: case["name"])
def test_loss_and_gradient_equal_the_reference(case: dict) -> None:
    config, expected = case["config"], case["expected"]
    tokens = tokens_of(case)
    weighed = corrected(case, tokens) if "correction" in config else tokens
    # A cap of the free ratio before the min binds where A < 0 only: it is the dual clip.
    dual_clip = config["ratio_cap"] if case["family"] == "two_sided" else config["dual_clip"]
    objective = Grpo(tuple(config["clip"]), kl_weight=0.0, dual_clip=dual_clip)
    loss_BT = (objective(weighed)[0] * tokens.mask_BT).detach()
    torch.testing.assert_close(loss_BT, torch.tensor(expected["loss_BT"], dtype=torch.float64), atol=1e-9, rtol=0)
    loss = reduced(objective, weighed, AVERAGES[config["loss_aggregation"]], 1)
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], abs=1e-9, rel=0)
    gradient_BT = torch.tensor(expected["grad_log_probs"], dtype=torch.float64)
    torch.testing.assert_close(tokens.logp_BT.grad, gradient_BT, atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", golden_cases("rivals", ("adv_dr_grpo",)), ids=lambda case: case["name"])
def test_advantages_equal_the_reference(case: dict) -> None:
    groups_B, reward_B = torch.tensor(case["inputs"]["groups"]), column(case, "rewards")
    reward_PG = reward_B.view(len(groups_B.unique()), -1)  # groups are contiguous and of one size
    expected_B = torch.tensor(case["expected"]["advantages"], dtype=torch.float64)
    torch.testing.assert_close(ADVANTAGES["centred"](reward_PG).flatten(), expected_B, atol=1e-9, rtol=0)
