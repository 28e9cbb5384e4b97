"""What the native engine has sampled so far: S rows that decode together, N new tokens at most."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from archer.engines.base import Answer, sample_seed
from archer.types import Problem, Rollout, Stop


@dataclass(frozen=True)
class Row:
    """One sequence asked for: where it belongs in the answer, and what it is."""

    place: int
    problem: Problem
    sample: int
    seed: int
    prompt: tuple[int, ...]


@dataclass(frozen=True)
class Ended:
    """A row that is finished: views of its columns (N,), good until its place is taken."""

    row: Row
    columns: tuple[Tensor, Tensor, Tensor]  # tokens, log-probs, entropies
    text: str
    stop: Stop

    def rollout(self, version: int) -> Rollout:
        """Return all of it, for training."""
        tokens, logps, entropies = (tuple(column.tolist()) for column in self.columns)
        row = self.row
        return Rollout(row.problem, row.sample, row.prompt, tokens, logps, entropies, self.text, self.stop, version)

    def answer(self) -> Answer:
        """Return what an evaluation keeps."""
        row = self.row
        seed = sample_seed(row.seed, row.problem.id, row.sample)
        return Answer(row.problem, row.sample, seed, self.text, len(self.columns[0]), self.stop)


@dataclass
class Board:
    """Columns beside the cache's rows."""

    rows: list[Row]
    token_SN: Tensor
    logp_SN: Tensor
    entropy_SN: Tensor
    uniform_SN: Tensor
    count_S: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """Return every column."""
        return self.token_SN, self.logp_SN, self.entropy_SN, self.uniform_SN, self.count_S

    def ended(self, row: int, count: int, stop: Stop, text: str) -> Ended:
        """Return ``row``, whose first ``count`` tokens are its response."""
        token_N, logp_N, entropy_N = (
            column[row, :count] for column in (self.token_SN, self.logp_SN, self.entropy_SN)
        )  # fmt: skip
        return Ended(self.rows[row], (token_N, logp_N, entropy_N), text, stop)


def new_board(capacity: int, tokens: int, device: torch.device) -> Board:
    """Return empty columns for ``capacity`` rows of at most ``tokens`` new tokens."""
    shape = (capacity, tokens)
    return Board(
        rows=[],
        token_SN=torch.zeros(shape, dtype=torch.long, device=device),
        logp_SN=torch.zeros(shape, device=device),
        entropy_SN=torch.zeros(shape, device=device),
        uniform_SN=torch.zeros(shape, device=device),
        count_S=torch.zeros(capacity, dtype=torch.long, device=device),
    )
