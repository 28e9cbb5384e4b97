"""Training samples, and how they are split into batches.

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
    """One response for training; log-probs and entropies in nats.

    - ``in_loss``: False if over-long filtering excludes the response
    - ``old_logp_T``, ``entropy_T``: of the sampling policy, reported by the engine or computed again by the policy
    - ``engine_logp_T``: the engine's log-probs, if the policy computed them again
    - ``correction_T``: importance weights of the tokens' advantages (``mismatch.py``)
    - ``ref_logp_T``: the reference log-probs at the tokens of ``kl_mask_T`` (None: at all tokens)
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
    """Return ``rollout`` as a training sample with its group-relative ``advantage``."""
    logp_T, entropy_T = torch.tensor(rollout.logps), torch.tensor(rollout.entropies)
    prompt, tokens = tuple(rollout.prompt_tokens.tolist()), tuple(rollout.tokens.tolist())
    return TrainSample(prompt, tokens, advantage, logp_T, entropy_T, in_loss)


def mini_batches(groups: Sequence[Group], size: int) -> list[tuple[TrainSample, ...]]:
    """Split groups, in order, into mini-batches of ``size`` groups; the last may be smaller."""
    chunks = [groups[start : start + size] for start in range(0, len(groups), size)]
    return [tuple(sample for group in chunk for sample in group) for chunk in chunks]


def micro_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Split row indices into micro-batches of similar lengths with rows x longest of at most ``budget`` tokens.

    A row longer than the budget gets its own micro-batch.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        # Rows come in ascending length, so this one is the longest of its batch.
        if batches and (len(batches[-1]) + 1) * lengths[index] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def pad(columns: Sequence[Tensor], device: torch.device) -> Tensor:
    """Stack 1-D columns into (B, T) on ``device``, padded with zeros at the end."""
    return torch.nn.utils.rnn.pad_sequence(list(columns), batch_first=True).to(device)
