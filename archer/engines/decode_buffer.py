"""The tokens sampled so far: S rows that decode together, at most N new tokens each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archer.types import Request

Columns = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]  # tokens, log-probs, entropies


@dataclass
class DecodeBuffer:
    """Sampled tokens and their statistics, row by row beside the key-value cache.

    The counter of a ``done`` row stands still: tokens sampled for it until it is removed overwrite one column, which
    is no part of its response.
    """

    rows: list[Request]
    token_SN: Tensor
    logp_SN: Tensor
    entropy_SN: Tensor
    uniform_SN: Tensor
    count_S: Tensor
    last_S: Tensor
    done_S: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """Return every column."""
        return (
            self.token_SN, self.logp_SN, self.entropy_SN, self.uniform_SN, self.count_S, self.last_S, self.done_S,
        )  # fmt: skip

    def place(self, rows: slice, taken: Sequence[Request], uniform_SN: Tensor) -> None:
        """Start ``taken`` in ``rows``, which must be the last rows."""
        self.rows[rows.start :] = taken
        self.uniform_SN[rows, : uniform_SN.shape[1]] = uniform_SN.to(self.uniform_SN.device)
        self.count_S[rows] = 0
        self.done_S[rows] = False

    def record(self, rows: slice, sampled: tuple[Tensor, Tensor, Tensor], stop_E: Tensor) -> None:
        """Append a token, its log-prob and its entropy to every row, and mark the rows that are done."""
        at_S1 = self.count_S[rows, None]
        for column_SN, new_S in zip((self.token_SN, self.logp_SN, self.entropy_SN), sampled, strict=True):
            column_SN[rows].scatter_(1, at_S1, new_S[:, None])
        self.last_S[rows] = sampled[0]
        self.count_S[rows] += ~self.done_S[rows]
        over_S = self.count_S[rows] >= self.token_SN.shape[1] - 1
        self.done_S[rows] |= over_S | (sampled[0][:, None] == stop_E).any(-1)

    def columns(self, over: Sequence[int]) -> list[Columns]:
        """Return tokens, log-probs and entropies of the rows ``over``, each (N,), in one copy to the CPU."""
        over_R = torch.tensor(over, device=self.count_S.device)
        counts = self.count_S[over_R].tolist()
        longest = max(counts)
        token_RN, logp_RN, entropy_RN = (
            column_SN[over_R, :longest].cpu().numpy() for column_SN in (self.token_SN, self.logp_SN, self.entropy_SN)
        )
        return [  # copies, so that a rollout does not keep the memory of longer ones
            (token_N[:count].astype(np.int32), logp_N[:count].copy(), entropy_N[:count].copy())
            for token_N, logp_N, entropy_N, count in zip(token_RN, logp_RN, entropy_RN, counts, strict=True)
        ]

    def drop(self, over: Sequence[int]) -> tuple[Tensor, Tensor, int]:
        """Remove the rows ``over``; the last rows move into the holes.

        Returns the holes, the rows that moved there, and how many rows are left.
        """
        left, removed = len(self.rows) - len(over), set(over)
        holes = [row for row in over if row < left]
        movers = [row for row in range(left, len(self.rows)) if row not in removed]
        for hole, mover in zip(holes, movers, strict=True):
            self.rows[hole] = self.rows[mover]
        hole_S, mover_S = (torch.tensor(rows, dtype=torch.long, device=self.count_S.device) for rows in (holes, movers))
        if holes:
            for column in self.tensors():
                column[hole_S] = column[mover_S]
        self.done_S[left : len(self.rows)] = True
        del self.rows[left:]
        return hole_S, mover_S, left


def new_buffer(capacity: int, tokens: int, device: torch.device) -> DecodeBuffer:
    """Return empty columns for ``capacity`` rows of at most ``tokens`` new tokens."""
    shape = (capacity, tokens + 1)
    return DecodeBuffer(
        rows=[],
        token_SN=torch.zeros(shape, dtype=torch.long, device=device),
        logp_SN=torch.zeros(shape, device=device),
        entropy_SN=torch.zeros(shape, device=device),
        uniform_SN=torch.zeros(shape, device=device),
        count_S=torch.zeros(capacity, dtype=torch.long, device=device),
        last_S=torch.zeros(capacity, dtype=torch.long, device=device),
        done_S=torch.ones(capacity, dtype=torch.bool, device=device),
    )
