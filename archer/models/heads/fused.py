"""Fused linear layer and softmax: log-prob and entropy of completion tokens without ever holding all logits.

N completion tokens, H hidden size, V vocabulary, R x C a tile of logits. The forward pass computes the logits tile by
tile, folds each into its rows' sums and keeps the log-sum-exp. The backward pass recomputes them (except a bounded
number of tiles that the forward pass kept), turns each tile into its gradient, and adds that tile's share to the
gradients of the hidden states and of the weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from archer.models.heads.dense import DenseLogProbs, fits
from archer.models.heads.products import factor, factor_dtype, has_kernels, multiply
from archer.models.heads.softmax import Folding, Slopes, Sums, TorchFolding
from archer.models.heads.tiles import Tiling, cut, wide


@dataclass(frozen=True)
class Logits:
    """A source of logit tiles: computed into ``room``, or into ``kept``, which holds the first tiles for later."""

    factor_NH: Tensor
    hidden_NH: Tensor
    weight_VH: Tensor
    scale: float
    cut: Tiling
    kept: Tensor
    room: Tensor

    def weights(self) -> Iterator[tuple[int, slice, Tensor]]:
        """Yield the number, columns and weight (C, H) of each tile of columns."""
        for number, columns in enumerate(self.cut.column_blocks()):
            yield number, columns, factor(self.weight_VH[columns], self.hidden_NH)

    def place(self, number: int, columns: slice, rows: slice) -> Tensor:
        """Return the memory of a tile (R, C): its own part of ``kept`` if it is kept, else ``room``."""
        wide, tall = columns.stop - columns.start, rows.stop - rows.start
        if number >= self.cut.kept:
            return self.room[: tall * wide].view(tall, wide)
        start = self.cut.tokens * columns.start + rows.start * wide
        return self.kept[start : start + tall * wide].view(tall, wide)

    def make(self, weight_CH: Tensor, rows: slice, out_RC: Tensor) -> Tensor:
        """Write the scaled logits of some rows to ``out_RC`` and return it."""
        return multiply(self.factor_NH[rows], weight_CH.T, out_RC, self.scale)


class LogProbs(torch.autograd.Function):
    """log softmax(h W^T / T) at the targets and the softmax's entropy, both (N,), in float32 or wider."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor, temperature: float, keep: bool
    ) -> tuple[Tensor, Tensor]:
        dtype = wide(hidden_NH.dtype)
        size = cut(len(target_N), len(weight_VH), hidden_NH.device.type, dtype.itemsize)
        size = size if keep else replace(size, kept=0)
        kept = hidden_NH.new_empty(len(target_N) * size.kept_columns, dtype=dtype)
        logits, folding = open_logits(hidden_NH, weight_VH, temperature, size, kept)
        sums = Sums.empty(len(target_N), hidden_NH.device, dtype)
        for number, columns, weight_CH in logits.weights():
            for rows in size.row_blocks():
                tile_RC = logits.make(weight_CH, rows, logits.place(number, columns, rows))
                folding.fold(tile_RC, sums.of(rows), target_N[rows], columns.start)
        lse_N, entropy_N = sums.log_sum_exp(), sums.entropy()
        ctx.save_for_backward(hidden_NH, weight_VH, target_N, lse_N, entropy_N, kept)
        ctx.temperature, ctx.cut = temperature, size
        ctx.set_materialize_grads(False)
        return sums.log_prob(), entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_NH, weight_VH, target_N, lse_N, entropy_N, kept = ctx.saved_tensors
        logp_grad_N = torch.zeros_like(lse_N) if grads[0] is None else grads[0].contiguous()
        slopes = Slopes(lse_N, entropy_N, logp_grad_N, None if grads[1] is None else grads[1].contiguous())
        logits, folding = open_logits(hidden_NH, weight_VH, ctx.temperature, ctx.cut, kept)
        to_hidden = HiddenGradient(logits) if ctx.needs_input_grad[0] else None
        to_weight = WeightGradient(logits) if ctx.needs_input_grad[1] else None  # None when only an adapter is trained
        for number, columns, weight_CH in logits.weights():
            for rows in ctx.cut.row_blocks():
                tile_RC = logits.place(number, columns, rows)
                if number >= ctx.cut.kept:
                    logits.make(weight_CH, rows, tile_RC)
                slope_RC = folding.slope(tile_RC, slopes.of(rows), target_N[rows], columns.start)
                if to_hidden is not None:
                    to_hidden.add(slope_RC, weight_CH, rows)
                if to_weight is not None:
                    to_weight.add(slope_RC, rows, columns)
        return (
            None if to_hidden is None else to_hidden.done(),
            None if to_weight is None else to_weight.grad_VH,
            None, None, None,
        )  # fmt: skip


class HiddenGradient:
    """The hidden states' gradient (N, H): a sum over all tiles of columns, in float32 until :meth:`done`."""

    def __init__(self, logits: Logits) -> None:
        self.logits = logits
        self.sum_NH = torch.zeros_like(logits.hidden_NH, dtype=wide(logits.hidden_NH.dtype))

    def add(self, slope_RC: Tensor, weight_CH: Tensor, rows: slice) -> None:
        """Add a tile's share."""
        multiply(slope_RC, weight_CH, self.sum_NH[rows], self.logits.scale, beta=1.0)

    def done(self) -> Tensor:
        """Return the gradient in the dtype of the hidden states."""
        return self.sum_NH.to(self.logits.hidden_NH.dtype)


class WeightGradient:
    """The weight's gradient (V, H): each tile is summed over the rows in float32, then rounded if it is narrower."""

    def __init__(self, logits: Logits) -> None:
        self.logits, weight_VH = logits, logits.weight_VH
        self.grad_VH = torch.empty_like(weight_VH) if logits.cut.tokens else torch.zeros_like(weight_VH)
        dtype, single = wide(logits.hidden_NH.dtype), logits.cut.rows >= logits.cut.tokens
        direct = weight_VH.dtype == dtype or (single and weight_VH.dtype == logits.factor_NH.dtype)
        size = (0 if direct else min(logits.cut.columns, len(weight_VH)), weight_VH.shape[1])
        self.room_CH = weight_VH.new_empty(size, dtype=dtype)

    def add(self, slope_RC: Tensor, rows: slice, columns: slice) -> None:
        """Add some rows' share to a tile of columns; call it with the rows in order."""
        out_CH = self.grad_VH[columns]
        sum_CH = self.room_CH[: len(out_CH)] if len(self.room_CH) else out_CH
        beta = 0.0 if rows.start == 0 else 1.0
        multiply(slope_RC.T, self.logits.factor_NH[rows], sum_CH, self.logits.scale, beta)
        if sum_CH is not out_CH and rows.stop == self.logits.cut.tokens:
            out_CH.copy_(sum_CH)


def open_logits(
    hidden_NH: Tensor, weight_VH: Tensor, temperature: float, size: Tiling, kept: Tensor
) -> tuple[Logits, Folding]:
    """Return the source of tiles and their folding: Triton's kernels on a GPU, torch elsewhere."""
    dtype, device = wide(hidden_NH.dtype), hidden_NH.device
    factor_NH = hidden_NH.to(factor_dtype(hidden_NH))
    folding: Folding
    if has_kernels(hidden_NH):
        from archer.models.heads.kernels import TritonFolding

        folding = TritonFolding(size.tile, device, factor_NH.dtype)
    else:
        folding = TorchFolding(size.tile, device, dtype)
    return Logits(factor_NH, hidden_NH, weight_VH, 1.0 / temperature, size, kept, folding.room), folding


def log_probs(
    hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return log-probs (N,) of ``target_N`` and entropies (N,) in nats under softmax(h W^T / temperature).

    Both carry gradients to the hidden states and the weight, and both are float32 (float64 for float64): products of
    bfloat16 hidden states and weights are summed in float32.
    """
    if fits(len(target_N), len(weight_VH)):
        logp_N, entropy_N = DenseLogProbs.apply(hidden_NH, weight_VH, target_N, temperature)  # type: ignore[no-untyped-call]
        return logp_N, entropy_N
    keep = torch.is_grad_enabled() and (hidden_NH.requires_grad or weight_VH.requires_grad)
    logp_N, entropy_N = LogProbs.apply(hidden_NH, weight_VH, target_N, temperature, keep)  # type: ignore[no-untyped-call]
    return logp_N, entropy_N
