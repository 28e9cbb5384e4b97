"""Training samples, and how they are split into batches.

B responses, T response tokens (the longest), N tokens of a whole optimizer step, G samples a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from archer.types import Rollout

IdArray = np.ndarray[Any, np.dtype[np.int32]]
Ids = Tensor | Sequence[int] | np.ndarray[Any, Any]
Column = Tensor | Sequence[float] | np.ndarray[Any, Any] | float | bool


@dataclass(frozen=True, eq=False)
class TrainSample:
    """One response for training.

    - ``prompt``, ``tokens``: ids, int32 arrays
    - ``columns``: per-token columns (T,) by name: float32 (log-probs and entropies in nats), or bool for masks. What
      belongs to the whole response is the same at each token.
    - ``in_loss``: False if over-long filtering excludes the response

    Beside those that an algorithm asks for (:data:`archer.algorithms.needs.SUPPLIED`), columns are

    - ``old_logp``, ``entropy``: of the sampling policy, reported by the engine or computed again by the policy
    - ``advantage``
    - ``engine_logp``: the engine's log-probs, if the policy computed them again
    - ``correction``: importance weights of the tokens' advantages (``mismatch.py``)
    - ``ref_logp``: the reference log-probs at the tokens of ``kl_mask``

    Raises ValueError if a column has another length than the tokens.
    """

    prompt: IdArray
    tokens: IdArray
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    in_loss: bool = True

    def __post_init__(self) -> None:
        for name, column_T in self.columns.items():
            if column_T.shape != self.tokens.shape:
                raise ValueError(f"column {name!r} of shape {tuple(column_T.shape)} for {len(self.tokens)} tokens")

    @classmethod
    def of(cls, prompt: Ids, tokens: Ids, *, in_loss: bool = True, **columns: Column) -> TrainSample:
        """Return a sample of ids and columns in any form; a number becomes the column that is the same everywhere."""
        return cls(ids(prompt), ids(tokens), {}, in_loss).having(**columns)

    def having(self, **columns: Column) -> TrainSample:
        """Return the sample with these columns added or exchanged."""
        made = {name: as_column(column, len(self.tokens)) for name, column in columns.items()}
        return replace(self, columns={**self.columns, **made})

    def without(self, *names: str) -> TrainSample:
        """Return the sample without these columns."""
        return replace(self, columns={name: kept for name, kept in self.columns.items() if name not in names})

    def __getitem__(self, name: str) -> Tensor:
        """Return the column ``name``, (T,)."""
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.tokens)


Group = tuple[TrainSample, ...]


def ids(values: Ids) -> IdArray:
    """Return token ids as an int32 array, without a copy if they are one."""
    return np.asarray(values, np.int32)


def as_column(values: Column, length: int) -> Tensor:
    """Return values as a column (T,): a tensor as it is, sequences as float32 or bool, a number as a view of one."""
    if isinstance(values, Tensor):
        return values
    if isinstance(values, bool):
        return torch.tensor(values).expand(length)
    if isinstance(values, float | int):
        return torch.tensor(float(values), dtype=torch.float32).expand(length)
    array = np.asarray(values)
    return torch.tensor(array if array.dtype == bool else np.asarray(array, np.float32))


def to_sample(rollout: Rollout, *, in_loss: bool = True, **columns: Column) -> TrainSample:
    """Return ``rollout`` as a training sample with these columns, and the log-probs and entropies of its engine."""
    sample = TrainSample.of(rollout.prompt_tokens, rollout.tokens, in_loss=in_loss, old_logp=rollout.logps, **columns)
    return sample.having(entropy=rollout.entropies) if len(rollout.entropies) else sample


def all_tokens(sample: TrainSample) -> Tensor:
    """Return the mask of all tokens of a response, (T,)."""
    return torch.ones(len(sample.tokens), dtype=torch.bool)


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


def numbered(groups: Sequence[Group], size: int) -> list[Group]:
    """Return the groups with the column ``group``: each group's number in its mini-batch of ``size`` groups."""
    return [
        tuple(one.having(group=torch.tensor(number % size).expand(len(one.tokens))) for one in group)
        for number, group in enumerate(groups)
    ]
