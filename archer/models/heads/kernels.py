"""Triton kernels that fold a tile of logits into running sums and turn it into a gradient, with one read and one write.

R rows, C columns of a tile of float32 logits. One kernel folds a row, block by block; the other turns a block of a row
into its gradient, in the dtype of the matrix products. The sums are those of ``softmax.py``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from archer.models.heads.softmax import Slopes, Sums

FOLD_BLOCK, SLOPE_BLOCK = 2048, 1024  # columns that a program holds at once


class TritonFolding:
    """Runs the kernels on a GPU; gradients have ``dtype``, in memory that every call overwrites."""

    def __init__(self, elements: int, device: torch.device, dtype: torch.dtype) -> None:
        self.room = torch.empty(elements, device=device, dtype=torch.float32)
        self.second = torch.empty(elements, device=device, dtype=dtype)

    def fold(self, logits_RC: Tensor, sums: Sums, target_R: Tensor, start: int) -> None:
        """Add a tile to the sums."""
        rows, columns = logits_RC.shape
        fold_rows[(rows,)](
            logits_RC, target_R, sums.top_N, sums.sum_N, sums.tilt_N, sums.pick_N, start, columns, FOLD_BLOCK
        )  # fmt: skip

    def slope(self, logits_RC: Tensor, slopes: Slopes, target_R: Tensor, start: int) -> Tensor:
        """Return the gradient of the logits (R, C)."""
        rows, columns = logits_RC.shape
        slope_RC = self.second[: rows * columns].view(rows, columns)
        with_entropy = slopes.entropy_grad_N is not None
        turn_blocks[(rows, triton.cdiv(columns, SLOPE_BLOCK))](
            logits_RC, slope_RC, target_R, slopes.lse_N, slopes.entropy_N, slopes.logp_grad_N,
            slopes.entropy_grad_N if with_entropy else slopes.logp_grad_N, start, columns, with_entropy, SLOPE_BLOCK,
        )  # fmt: skip
        return slope_RC


@triton.jit  # type: ignore[untyped-decorator]
def fold_rows(  # type: ignore[no-untyped-def]
    logits_at, target_at, top_at, sum_at, tilt_at, pick_at, start, columns, BLOCK: tl.constexpr
):
    """Fold one row of a tile into its sums."""
    row = tl.program_id(0).to(tl.int64)
    row_at = logits_at + row * columns
    top, total, tilt = tl.load(top_at + row), tl.load(sum_at + row), tl.load(tilt_at + row)
    for offset in range(0, columns, BLOCK):
        column = offset + tl.arange(0, BLOCK)
        inside = column < columns
        block = tl.load(row_at + column, mask=inside, other=-float("inf"))
        higher = tl.maximum(top, tl.max(block, 0))
        step = tl.where(total > 0, top - higher, 0.0)  # while the sums are zero, the step would be infinite
        shifted = tl.where(inside, block - higher, 0.0)
        power = tl.where(inside, tl.exp(shifted), 0.0)
        scale = tl.exp(step)
        tilt = (tilt + step * total) * scale + tl.sum(power * shifted, 0)
        total = total * scale + tl.sum(power, 0)
        top = higher
    tl.store(top_at + row, top)
    tl.store(sum_at + row, total)
    tl.store(tilt_at + row, tilt)
    target = tl.load(target_at + row) - start
    if (target >= 0) & (target < columns):
        tl.store(pick_at + row, tl.load(row_at + target))


@triton.jit  # type: ignore[untyped-decorator]
def turn_blocks(  # type: ignore[no-untyped-def]
    logits_at, slope_at, target_at, lse_at, entropy_at, logp_grad_at, entropy_grad_at, start, columns,
    WITH_ENTROPY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Turn one block of a row into its gradient."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    logp = tl.load(logits_at + row * columns + column, mask=inside, other=0.0) - tl.load(lse_at + row)
    grad = tl.load(logp_grad_at + row)
    slope = -grad
    if WITH_ENTROPY:
        slope -= tl.load(entropy_grad_at + row) * (logp + tl.load(entropy_at + row))
    slope = slope * tl.exp(logp)
    slope = tl.where(column == tl.load(target_at + row) - start, slope + grad, slope)
    tl.store(slope_at + row * columns + column, slope, mask=inside)
