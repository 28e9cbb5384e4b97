"""Archer: dual-token constraints (arXiv 2507.15778v2, Eq. 2-5).

High-entropy tokens carry the reasoning and may change much (wide clip, no KL); low-entropy tokens carry the
knowledge and should not (narrow clip, KL to the reference).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from archer.algorithms.base import (
    Algorithm,
    Clip,
    Columns,
    Estimator,
    above_quantile,
    clipped_surrogate,
    kl,
    no_advantage,
)
from archer.algorithms.tokens import Tokens


@dataclass(frozen=True)
class Archer:
    """beta(e) KL - min(r A, clip(r, 1 -+ eps(e)) A), with eps and beta of the token's class.

    A token is a reasoning token if its entropy reaches the ``entropy_quantile`` of its response (``scope``
    "batch": of the whole step). The defaults are the paper's. The released code differs in fields: ``gate``
    ">", ``kl_average`` "class" (the KL is averaged within each class of a response), ``dual_clip`` 10,
    ``entropy`` of the current "policy" at every update.
    """

    entropy_quantile: float = 0.8
    reasoning_clip: Clip = (0.5, 0.5)
    knowledge_clip: Clip = (0.2, 0.2)
    reasoning_kl: float = 0.0
    knowledge_kl: float = 0.001
    gate: Literal[">=", ">"] = ">="
    scope: Literal["response", "batch"] = "response"
    entropy: Literal["rollout", "policy"] = "rollout"
    kl_estimator: Estimator = "k3"
    kl_average: Literal["tokens", "class"] = "tokens"
    dual_clip: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.entropy_quantile <= 1:
            raise ValueError(f"entropy_quantile is a share between 0 and 1, found {self.entropy_quantile}")
        if min(self.reasoning_kl, self.knowledge_kl) < 0:
            raise ValueError("reasoning_kl and knowledge_kl are weights of 0 or more")
        if self.scope == "batch" and self.entropy == "policy":
            raise ValueError(
                "scope: batch needs entropy: rollout (the current policy's entropies of a whole step are not known "
                "before its forward pass)"
            )

    @property
    def needs_reference(self) -> bool:
        """Whether any token carries a KL weight."""
        return self.reasoning_kl > 0 or self.knowledge_kl > 0

    @property
    def needs(self) -> frozenset[str]:
        """The entropy that divides tokens, that of the whole step by ``scope``, and the reference's log-probs."""
        names = {"entropy" if self.entropy == "rollout" else "policy_entropy"}
        names |= {"step_entropy"} if self.scope == "batch" else set()
        return frozenset(names | {"ref_logp"} if self.needs_reference else names)

    def skips(self, columns: Mapping[str, Tensor]) -> bool:
        """Whether a response's loss is constant: without a KL term it is proportional to the advantage."""
        return not self.needs_reference and no_advantage(columns)

    def reasoning(self, tokens: Tokens) -> Tensor:
        """Return which tokens are reasoning tokens, (B, T) bool."""
        return above_quantile(tokens, self.entropy_quantile, scope=self.scope, strict=self.gate == ">")

    def reads_reference(self, tokens: Tokens) -> Tensor:
        """Return the tokens of the classes with a KL weight, (B, T) bool; all, while classes are not known yet."""
        if self.entropy == "policy":
            return tokens.mask_BT
        classes = torch.tensor(self.reasoning_kl > 0), torch.tensor(self.knowledge_kl > 0)
        return torch.where(self.reasoning(tokens), *classes) & tokens.mask_BT

    def masks(self, tokens: Tokens) -> Columns:
        """Return the two classes, which split the metrics."""
        reasoning_BT = self.reasoning(tokens)
        return {"reasoning": reasoning_BT, "knowledge": tokens.mask_BT & ~reasoning_BT}

    def __call__(self, tokens: Tokens) -> tuple[Tensor, Columns]:
        """Return the unreduced loss and the columns ``clip`` and, with a reference, ``kl``."""
        reasoning_BT = self.reasoning(tokens)
        below_BT, above_BT = (
            by_class(reasoning_BT, wide, narrow, tokens.logp_BT.dtype)
            for wide, narrow in zip(self.reasoning_clip, self.knowledge_clip, strict=True)
        )
        surrogate_BT, clipped_BT = clipped_surrogate(tokens, below_BT, above_BT, self.dual_clip)
        if not self.needs_reference:
            return -surrogate_BT, {"clip": clipped_BT}
        kl_BT = kl(tokens, self.kl_estimator)
        weight_BT = by_class(reasoning_BT, self.reasoning_kl, self.knowledge_kl, kl_BT.dtype)
        if self.kl_average == "class":
            weight_BT = weight_BT * inverse_share(reasoning_BT, tokens.mask_BT)
        return weight_BT * kl_BT - surrogate_BT, {"clip": clipped_BT, "kl": kl_BT}


def by_class(reasoning_BT: Tensor, reasoning: float, knowledge: float, dtype: torch.dtype) -> Tensor:
    """Return one value on reasoning tokens and another on the rest, (B, T) of ``dtype``."""
    return torch.where(reasoning_BT, torch.tensor(reasoning, dtype=dtype), torch.tensor(knowledge, dtype=dtype))


def inverse_share(reasoning_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return tokens of the response / tokens of the token's class, (B, T): makes a mean over tokens one per class."""
    length_B1 = mask_BT.sum(1, keepdim=True)
    reasoning_B1 = reasoning_BT.sum(1, keepdim=True)
    own_BT = torch.where(reasoning_BT, reasoning_B1, length_B1 - reasoning_B1)
    return length_B1 / own_BT.clamp_min(1)


ROWS = {
    "archer": Algorithm(Archer()),
    "archer-released": Algorithm(
        Archer(gate=">", kl_average="class", dual_clip=10.0, entropy="policy"),
        aggregation="response",
        group_filter="drop",
    ),
}
