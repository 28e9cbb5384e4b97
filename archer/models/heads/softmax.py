"""Folds a tile of logits into running sums and turns it into a gradient, in torch, on any device.

R rows (tokens), C columns of the vocabulary, N tokens. A row's softmax over columns that come tile by tile needs the
greatest logit so far, ``sum exp(z - top)`` and, for the entropy, ``sum exp(z - top) (z - top)`` (online softmax:
Milakov and Gimelshein, arXiv 1805.02867). If a tile raises the top, both sums are rescaled to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sums:
    """Running sums of each row, all (N,), updated in place: the greatest logit, the two sums, the target's logit."""

    top_N: Tensor
    sum_N: Tensor
    tilt_N: Tensor
    pick_N: Tensor

    @classmethod
    def empty(cls, rows: int, device: torch.device, dtype: torch.dtype) -> Sums:
        """Return the sums over no columns."""
        zeros = [torch.zeros(rows, device=device, dtype=dtype) for _ in range(3)]
        return cls(torch.full((rows,), -torch.inf, device=device, dtype=dtype), *zeros)

    def of(self, rows: slice) -> Sums:
        """Return the sums of some rows, sharing memory."""
        return Sums(self.top_N[rows], self.sum_N[rows], self.tilt_N[rows], self.pick_N[rows])

    def log_sum_exp(self) -> Tensor:
        """Return log sum exp z (N,)."""
        return self.top_N + self.sum_N.log()

    def log_prob(self) -> Tensor:
        """Return the targets' log-probs (N,), from differences to the top, which stay small."""
        return self.pick_N - self.top_N - self.sum_N.log()

    def entropy(self) -> Tensor:
        """Return H = log sum - tilt / sum (N,) in nats, from differences to the top, which stay small."""
        return self.sum_N.log() - self.tilt_N / self.sum_N


@dataclass(frozen=True)
class Slopes:
    """What the backward pass needs of each row, all (N,): log-sum-exp, entropy, and the gradients of the log-prob and
    of the entropy (None if the entropy has none)."""

    lse_N: Tensor
    entropy_N: Tensor
    logp_grad_N: Tensor
    entropy_grad_N: Tensor | None

    def of(self, rows: slice) -> Slopes:
        """Return the slopes of some rows, sharing memory."""
        grad_N = None if self.entropy_grad_N is None else self.entropy_grad_N[rows]
        return Slopes(self.lse_N[rows], self.entropy_N[rows], self.logp_grad_N[rows], grad_N)


class Folding(Protocol):
    """What is done to a tile between the matrix products. ``start`` is the tile's first column.

    ``room`` is memory for a tile of logits, which the methods may overwrite; logits elsewhere are preserved.
    """

    room: Tensor

    def fold(self, logits_RC: Tensor, sums: Sums, target_R: Tensor, start: int) -> None:
        """Add a tile to the sums."""

    def slope(self, logits_RC: Tensor, slopes: Slopes, target_R: Tensor, start: int) -> Tensor:
        """Return the gradient of the logits (R, C), in memory that the next call overwrites.

        d logp_y / d z = 1_y - p;  d H / d z = -p (log p + H)
        """


class TorchFolding:
    """Folds a tile with torch operations, in two tiles of memory that every call overwrites."""

    def __init__(self, elements: int, device: torch.device, dtype: torch.dtype) -> None:
        self.room, self.second = (torch.empty(elements, device=device, dtype=dtype) for _ in range(2))

    def fold(self, logits_RC: Tensor, sums: Sums, target_R: Tensor, start: int) -> None:
        """Add a tile to the sums."""
        shifted_RC, exp_RC = self.tiles(logits_RC)
        inside_R, column_R = place(target_R, start, logits_RC.shape[1])
        sums.pick_N.copy_(torch.where(inside_R, logits_RC.gather(1, column_R[:, None])[:, 0], sums.pick_N))
        top_R = torch.maximum(sums.top_N, logits_RC.amax(-1))
        torch.sub(logits_RC, top_R[:, None], out=shifted_RC)
        torch.exp(shifted_RC, out=exp_RC)
        # The first tile's step is infinite; it scales sums that are zero.
        step_R = (sums.top_N - top_R).clamp_(min=torch.finfo(top_R.dtype).min)
        scale_R = step_R.exp()
        sums.tilt_N.addcmul_(step_R, sums.sum_N).mul_(scale_R).add_(shifted_RC.mul_(exp_RC).sum(-1))
        sums.sum_N.mul_(scale_R).add_(exp_RC.sum(-1))
        sums.top_N.copy_(top_R)

    def slope(self, logits_RC: Tensor, slopes: Slopes, target_R: Tensor, start: int) -> Tensor:
        """Return the gradient of the logits (R, C)."""
        logp_RC, slope_RC = self.tiles(logits_RC)
        torch.sub(logits_RC, slopes.lse_N[:, None], out=logp_RC)
        torch.exp(logp_RC, out=slope_RC)
        down_R = -slopes.logp_grad_N
        if slopes.entropy_grad_N is None:
            slope_RC.mul_(down_R[:, None])
        else:  # two passes that broadcast a column are faster than one addcmul
            down_R.addcmul_(slopes.entropy_grad_N, slopes.entropy_N, value=-1)
            slope_RC.mul_(logp_RC.mul_(-slopes.entropy_grad_N[:, None]).add_(down_R[:, None]))
        inside_R, column_R = place(target_R, start, logits_RC.shape[1])
        return slope_RC.scatter_add_(1, column_R[:, None], (slopes.logp_grad_N * inside_R)[:, None])

    def tiles(self, like_RC: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two tiles of memory in the logits' shape; the logits may lie in the first."""
        first, second = (part[: like_RC.numel()].view(like_RC.shape) for part in (self.room, self.second))
        return first, second


def place(target_R: Tensor, start: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return which targets lie in a tile, and their columns in it (0 or the last for the others), both (R,)."""
    column_R = target_R - start
    return (column_R >= 0) & (column_R < columns), column_R.clamp(0, columns - 1)
