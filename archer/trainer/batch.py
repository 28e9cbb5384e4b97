"""From graded rollouts to the columns an objective reads.

B responses, T response tokens (the longest), N tokens of a whole optimizer step, G samples a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archer.types import Rollout


@dataclass(frozen=True)
class TrainSample:
    """One response as training sees it; ``in_loss`` is False where over-long filtering left its tokens out.

    ``old_logp_T`` and ``entropy_T`` are those of the policy that sampled it, as the engine reported them or as the
    policy computed them again; then ``engine_logp_T`` keeps the engine's, and ``correction_T`` may weigh the
    advantage of each token for the difference (``mismatch.py``). ``ref_logp_T`` is the reference's at the tokens
    ``kl_mask_T`` (none: at all).
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    advantage: float
    old_logp_T: Tensor
    entropy_T: Tensor
    in_loss: bool = True
    ref_logp_T: Tensor | None = None
    kl_mask_T: Tensor | None = None
    engine_logp_T: Tensor | None = None
    correction_T: Tensor | None = None

    def __len__(self) -> int:
        return len(self.prompt) + len(self.tokens)


Group = tuple[TrainSample, ...]


def to_sample(rollout: Rollout, advantage: float, *, in_loss: bool = True) -> TrainSample:
    """Return ``rollout`` as a response with its group-relative ``advantage``."""
    logp_T, entropy_T = torch.tensor(rollout.logps), torch.tensor(rollout.entropies)
    return TrainSample(rollout.prompt_tokens, rollout.tokens, advantage, logp_T, entropy_T, in_loss)


def mini_batches(groups: Sequence[Group], size: int) -> list[tuple[TrainSample, ...]]:
    """Cut groups, in their order, into mini-batches of ``size`` groups; the last may be smaller."""
    chunks = [groups[start : start + size] for start in range(0, len(groups), size)]
    return [tuple(one for group in chunk for one in group) for chunk in chunks]


def micro_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group row indices by like length so that rows x longest stays within ``budget`` tokens.

    A row longer than the budget gets a micro-batch of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        # Rows come in ascending length, so the newcomer is the longest of its batch.
        if batches and (len(batches[-1]) + 1) * lengths[index] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def pad(columns: Sequence[Tensor], device: torch.device) -> Tensor:
    """Stack ragged 1-D columns into (B, T) on ``device``, zeros behind."""
    return torch.nn.utils.rnn.pad_sequence(list(columns), batch_first=True).to(device)
