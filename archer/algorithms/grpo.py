"""GRPO (DeepSeekMath, arXiv 2402.03300, Eq. 3) and Dr.GRPO (arXiv 2503.20783): one clip, one KL weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from archer.algorithms.base import Algorithm, Clip, Columns, Estimator, clipped_surrogate, kl
from archer.algorithms.tokens import Tokens


@dataclass(frozen=True)
class Grpo:
    """beta KL - min(r A, clip(r, 1 - eps, 1 + eps) A).

    ``kl_weight`` 0.001 is DeepSeek-R1-Zero's; ``dual_clip`` bounds the loss where A < 0 (verl: 3).
    """

    clip: Clip = (0.2, 0.2)
    kl_weight: float = 0.001
    kl_estimator: Estimator = "k3"
    dual_clip: float | None = None

    def __post_init__(self) -> None:
        if self.kl_weight < 0:
            raise ValueError(f"kl_weight is a weight of 0 or more, found {self.kl_weight}")

    @property
    def entropy(self) -> Literal["rollout", "policy"]:
        """The entropy that splits metrics: that at rollout; the loss reads none."""
        return "rollout"

    @property
    def needs_reference(self) -> bool:
        """Whether the KL term is on."""
        return self.kl_weight > 0

    def __call__(self, tokens: Tokens) -> tuple[Tensor, Columns]:
        """Return the unreduced loss and the columns ``clip`` and, with a reference, ``kl``."""
        surrogate_BT, clipped_BT = clipped_surrogate(tokens, *self.clip, self.dual_clip)
        if not self.needs_reference:
            return -surrogate_BT, {"clip": clipped_BT}
        kl_BT = kl(tokens, self.kl_estimator)
        return self.kl_weight * kl_BT - surrogate_BT, {"clip": clipped_BT, "kl": kl_BT}


ROWS = {
    "grpo": Algorithm(Grpo(), aggregation="response"),
    "dr-grpo": Algorithm(Grpo(kl_weight=0.0), advantage="centred", aggregation="constant"),
}
