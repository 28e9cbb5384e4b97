"""Every objective equals its reference, and does not depend on how a batch is cut."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from helpers.golden import AVERAGES, FOLDER, committed_cases, family_of, golden_cases, reduced, tokens_of

from archer.algorithms import ALGORITHMS, Objective
from archer.algorithms.advantages import ADVANTAGES
from archer.algorithms.aggregation import AGGREGATIONS
from archer.algorithms.archer import Archer
from archer.algorithms.base import above_quantile
from archer.algorithms.grpo import Grpo
from archer.algorithms.tokens import Tokens

FAMILIES = ("archer_paper", "archer_released", "grpo", "dapo", "dr_grpo")
ARCHER = ("archer_paper", "archer_released")


def objective_of(case: dict) -> Objective:
    config = case["config"]
    if not case["name"].startswith("archer"):
        return Grpo(tuple(config["clip"]), config.get("kl", 0.0), dual_clip=config["dual_clip"])
    return Archer(
        entropy_quantile=config["entropy_quantile"],
        reasoning_clip=tuple(config["clip_reasoning"]),
        knowledge_clip=tuple(config["clip_knowledge"]),
        reasoning_kl=config["kl_reasoning"],
        knowledge_kl=config["kl_knowledge"],
        gate=">=" if ">=" in config["gate"] else ">",
        dual_clip=config["dual_clip"],
        kl_average="class" if "class" in config["kl_aggregation"] else "tokens",
    )


@pytest.mark.parametrize("case", golden_cases("losses", FAMILIES), ids=lambda case: case["name"])
def test_loss_and_gradient_equal_the_reference(case: dict) -> None:
    tokens = tokens_of(case)
    aggregation = AVERAGES[case["config"]["loss_aggregation"]]
    loss = reduced(objective_of(case), tokens, aggregation, case["config"].get("normaliser", 1))
    loss.backward()
    assert loss.item() == pytest.approx(case["expected"]["loss"], abs=1e-9, rel=0)
    expected = torch.tensor(case["expected"]["grad_log_probs"], dtype=torch.float64)
    torch.testing.assert_close(tokens.logp_BT.grad, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", golden_cases("losses", FAMILIES), ids=lambda case: case["name"])
def test_advantages_equal_the_reference(case: dict) -> None:
    groups = torch.tensor(case["inputs"]["groups"])
    reward_B = torch.tensor(case["inputs"]["rewards"], dtype=torch.float64)
    kind = "centred" if case["name"].startswith("dr_grpo") else "zscore"
    for group in groups.unique():
        expected = torch.tensor(case["inputs"]["advantages"], dtype=torch.float64)[groups == group]
        found = ADVANTAGES[kind](reward_B[None, groups == group])[0]
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", golden_cases("losses", ARCHER), ids=lambda case: case["name"])
def test_reasoning_tokens_equal_the_reference(case: dict) -> None:
    objective = objective_of(case)
    found = above_quantile(tokens_of(case), objective.entropy_quantile, strict=objective.gate == ">")
    assert found.tolist() == torch.tensor(case["expected"]["reasoning_mask"]).bool().tolist()


def test_golden_cases_are_all_there() -> None:
    assert len(golden_cases("losses", FAMILIES)) >= 32
    counts = Counter(family_of(case) for case in committed_cases("losses"))
    assert counts == {
        "archer_paper": 8, "archer_released": 12, "grpo": 4, "dapo": 4, "dr_grpo": 4,
        "gspo": 4, "gspo_wide": 4, "cispo": 4, "sapo": 4, "gmpo": 4, "kl_cov": 4,
    }  # fmt: skip
    readme = (FOLDER / "README.md").read_text()
    assert f"{counts.total()} cases in {len(counts)} families" in readme
    assert [name for name in counts if f"`{name}`" not in readme] == []


def random_tokens(rows: int, width: int, seed: int) -> Tokens:
    make = torch.Generator().manual_seed(seed)
    length_B = torch.randint(1, width + 1, (rows,), generator=make)
    mask_BT = torch.arange(width) < length_B[:, None]
    logp_BT, near_BT, ref_BT = (
        -torch.rand(rows, width, generator=make, dtype=torch.float64) * scale for scale in (3.0, 0.5, 0.5)
    )
    entropy_BT = torch.rand(rows, width, generator=make, dtype=torch.float64)
    advantage_B1 = torch.randn(rows, 1, generator=make, dtype=torch.float64)
    return Tokens(
        logp_BT=logp_BT * mask_BT,
        old_logp_BT=(logp_BT - near_BT) * mask_BT,
        entropy_BT=entropy_BT * mask_BT,
        advantage_BT=advantage_B1.expand(rows, width),
        mask_BT=mask_BT,
        ref_logp_BT=(logp_BT + ref_BT) * mask_BT,
        step_entropy_N=entropy_BT[mask_BT],
    )


def rows_of(tokens: Tokens, rows: list[int], width: int | None = None) -> Tokens:
    """Rows cut out of a batch, and the columns cut to what they need or padded to ``width``."""
    need = int(tokens.mask_BT[rows].sum(1).max())
    columns = {}
    for name in ("logp_BT", "old_logp_BT", "entropy_BT", "advantage_BT", "mask_BT", "ref_logp_BT"):
        column = getattr(tokens, name)[rows][:, :need]
        columns[name] = torch.nn.functional.pad(column, (0, (width or need) - need))
    return Tokens(**columns, step_entropy_N=tokens.step_entropy_N)


def gradient(objective: Objective, tokens: Tokens, aggregation: str, cuts: list[list[int]], width: int | None) -> tuple:
    """The loss and, by row and position, its gradient, when the batch is cut into ``cuts``."""
    weight_B = AGGREGATIONS[aggregation](tokens.mask_BT.sum(1).double(), 12)
    total, grads = 0.0, torch.zeros_like(tokens.logp_BT)
    for rows in cuts:
        part = rows_of(tokens, rows, width)
        part.logp_BT.requires_grad_()
        loss_BT, _ = objective(part)
        loss = (loss_BT * part.mask_BT * weight_B[rows, None]).sum()
        loss.backward()
        total += loss.item()
        need = min(part.logp_BT.shape[1], grads.shape[1])
        grads[rows, :need] = (part.logp_BT.grad * part.mask_BT)[:, :need]
    return total, grads


OBJECTIVES = {name: row.objective for name, row in ALGORITHMS.items()} | {
    "archer-batch-scope": Archer(scope="batch", reasoning_kl=0.01, knowledge_kl=0.05)
}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_micro_batches_padding_and_order_change_nothing(name: str, aggregation: str) -> None:
    tokens = random_tokens(rows=7, width=11, seed=5)
    whole = gradient(OBJECTIVES[name], tokens, aggregation, [[0, 1, 2, 3, 4, 5, 6]], None)
    assert whole[1].abs().sum() > 0
    for cuts, width in (
        ([[0, 1, 2], [3], [4, 5, 6]], None),
        ([[6], [2], [0], [1], [5], [3], [4]], None),
        ([[6, 5, 4, 3, 2, 1, 0]], 17),
    ):
        loss, grads = gradient(OBJECTIVES[name], tokens, aggregation, cuts, width)
        assert loss == pytest.approx(whole[0], abs=1e-12)
        torch.testing.assert_close(grads, whole[1], atol=1e-12, rtol=0)


def test_archer_gate_of_one_response_by_hand() -> None:
    # Entropies 0.1 .. 0.5: the 0.8 quantile, by linear interpolation, is 0.1 + 0.8 * 0.4 = 0.42.
    tokens = random_tokens(rows=1, width=5, seed=1)
    entropy_BT = torch.tensor([[0.1, 0.5, 0.3, 0.2, 0.4]], dtype=torch.float64)
    tokens = Tokens(
        torch.zeros(1, 5), torch.zeros(1, 5), entropy_BT, torch.ones(1, 5), torch.ones(1, 5, dtype=torch.bool)
    )
    assert above_quantile(tokens, 0.8).tolist() == [[False, True, False, False, False]]


def test_ties_are_reasoning_by_the_paper_and_knowledge_by_the_released_code() -> None:
    # 90 zeros and 10 positive entropies: the quantile is 0 (facts D3).
    entropy_BT = torch.cat([torch.zeros(1, 90), torch.ones(1, 10)], dim=1)
    ones = torch.ones(1, 100)
    tokens = Tokens(ones, ones, entropy_BT, ones, ones.bool())
    assert above_quantile(tokens, 0.8).sum() == 100
    assert above_quantile(tokens, 0.8, strict=True).sum() == 10


def test_averaging_of_lengths_10_and_1000_by_hand() -> None:
    length_B = torch.tensor([10.0, 1000.0])
    loss = {
        name: (AGGREGATIONS[name](length_B, 1000) * torch.tensor([10.0, 0.0])).sum().item() for name in AGGREGATIONS
    }
    assert loss["response"] == pytest.approx(0.5)
    assert loss["token"] == pytest.approx(10 / 1010, rel=1e-6)
    assert loss["constant"] == pytest.approx(10 / 2000, rel=1e-6)


def test_weights_leave_out_responses_without_tokens() -> None:
    length_B = torch.tensor([4.0, 0.0, 2.0])
    assert (AGGREGATIONS["response"](length_B, 4) * length_B).tolist() == pytest.approx([0.5, 0.0, 0.5])
    assert (AGGREGATIONS["token"](length_B, 4) * length_B).sum().item() == pytest.approx(1.0)
