"""GRPO (DeepSeekMath, arXiv 2402.03300, Eq. 3) and Dr.GRPO (arXiv 2503.20783): one clip, one KL weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from archer.algorithms.base import Algorithm, Clip, Columns, Estimator, clipped_surrogate, kl, no_advantage
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
    def needs_reference(self) -> bool:
        """Whether the KL term is on."""
        return self.kl_weight > 0

    @property
    def needs(self) -> frozenset[str]:
        """The reference's log-probs, if the KL term is on."""
        return frozenset({"ref_logp"} if self.needs_reference else ())

    def skips(self, columns: Mapping[str, Tensor]) -> bool:
        """Whether a response's loss is constant: without a KL term it is proportional to the advantage."""
        return not self.needs_reference and no_advantage(columns)

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
