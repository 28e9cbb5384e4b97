"""What an update adds to its metrics: the objective's columns, over all tokens and over the objective's own kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from archer.algorithms.base import Objective, metric_masks, ratio
from archer.algorithms.tokens import Tokens
from archer.trainer.batch import TrainSample, pad
from archer.trainer.metrics import Averages
from archer.trainer.mismatch import LARGEST, mismatch_metrics


@torch.no_grad()
def observe(
    objective: Objective, micro: Sequence[TrainSample], tokens: Tokens, columns: dict[str, Tensor], averages: Averages
) -> None:
    """Average the objective's columns over all tokens, and over each kind of tokens that it names."""
    still = replace(tokens, logp_BT=tokens.logp_BT.detach())
    kinds = metric_masks(objective, still)
    masks = {"": tokens.mask_BT, **{name: mask_BT & tokens.mask_BT for name, mask_BT in kinds.items()}}
    columns = {**columns, "ratio": ratio(still)}
    if tokens.entropy_BT is not None:
        columns["entropy"] = tokens.entropy_BT
    elif "entropy" in micro[0].columns:
        columns["entropy"] = pad([sample["entropy"] for sample in micro], tokens.mask_BT.device)
    if "kl" in columns and tokens.anchored_BT is not None:  # the others have no reference log-probs
        held = {suffix: mask_BT & tokens.anchored_BT for suffix, mask_BT in masks.items()}
        averages.add_columns({"kl": columns.pop("kl")}, held)
    averages.add_columns(columns, masks)


def compare(tokens: Tokens, averages: Averages) -> None:
    """Add the mismatch between the policy's and the engine's log-probs to ``averages``."""
    gap_N = (tokens.logp_BT.detach() - tokens.old_logp_BT)[tokens.mask_BT]
    for name, value in mismatch_metrics(gap_N).items():
        if name == LARGEST:
            averages.top(name, value)
        else:
            averages.add(name, value * len(gap_N), len(gap_N))
