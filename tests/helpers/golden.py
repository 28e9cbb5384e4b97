"""Golden cases: what reference implementations gave on random inputs, as ``tests/golden/README.md`` describes them."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Collection
from pathlib import Path

import torch

from archer.algorithms import Objective
from archer.algorithms.aggregation import AGGREGATIONS
from archer.algorithms.tokens import Tokens

FOLDER = Path(__file__).parents[1] / "golden"
VARIABLES = {"losses": "ARCHER_GOLDEN", "rivals": "ARCHER_GOLDEN_RIVALS"}
AVERAGES = {
    "token-mean": "token", "token mean over the batch": "token",
    "seq-mean-token-mean": "response", "mean over responses of the token mean": "response",
    "seq-mean-token-sum-norm": "constant",
}  # fmt: skip


def committed_cases(name: str) -> list[dict]:
    """Return all cases of ``losses`` or ``rivals`` that the repository holds."""
    return json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))


def golden_cases(name: str, families: Collection[str]) -> list[dict]:
    """Return the cases of these families, of the repository's file or of the .json file that a variable names.

    Raises ValueError where there is none, since a test over no cases is skipped.
    """
    other = os.environ.get(VARIABLES[name])
    cases = json.loads(Path(other).read_text()) if other else committed_cases(name)
    found = [case for case in cases if family_of(case) in families]
    if not found:
        place = f"{other} ({VARIABLES[name]})" if other else f"tests/golden/{name}.json.gz"
        raise ValueError(f"{place}: no case of a family that is tested; known: {', '.join(families)}")
    return found


def family_of(case: dict) -> str:
    """Return the family, with which a case's name begins."""
    return case["name"].partition("-")[0]


def column(case: dict, name: str) -> torch.Tensor:
    """Return one of a case's inputs in float64, (B, T) or (B,)."""
    return torch.tensor(case["inputs"][name], dtype=torch.float64)


def tokens_of(case: dict) -> Tokens:
    """Return the inputs of a case as an objective sees them."""
    logp_BT = column(case, "log_probs").requires_grad_()
    return Tokens(
        logp_BT=logp_BT,
        old_logp_BT=column(case, "old_log_probs"),
        entropy_BT=column(case, "entropy"),
        advantage_BT=column(case, "advantages")[:, None].expand_as(logp_BT),
        mask_BT=column(case, "mask").bool(),
        ref_logp_BT=column(case, "ref_log_probs"),
    )


def reduced(objective: Objective, tokens: Tokens, aggregation: str, longest: int) -> torch.Tensor:
    """Return the loss of all tokens as one number."""
    loss_BT, _ = objective(tokens)
    weight_B = AGGREGATIONS[aggregation](tokens.mask_BT.sum(1).double(), longest)
    return (loss_BT * tokens.mask_BT * weight_B[:, None]).sum()
