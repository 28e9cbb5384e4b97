"""Attention over packed rows: causal in each segment, and from every response to its group's single prompt.

Attention to the prompt and to the response itself are computed apart and merged by their log-sum-exps, so no key is
copied or masked. The backward of each part, given the merged output and log-sum-exp, yields its share of the gradient.
On a GPU one call of flex attention does both, by a block mask.

N tokens of the row, A heads, D head size, B segments of a bucket, T tokens of its longest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from archer.trainer.flex import attend as attend_on_gpu
from archer.trainer.packing import LengthBucket, PackedLayout

NAME = "archer"
Part = tuple[Tensor, Tensor]


def flash(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> Part:
    """Return the output (B, A, T, D) and the log-sum-exp (B, A, T) of one dense attention."""
    part: Part = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=scale)
    return part


class PackedAttention(torch.autograd.Function):
    """Attention of queries, keys and values (N, A, D) over a layout, by torch's flash kernels for the CPU."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, scale: float) -> Tensor:
        out = torch.empty_like(query)
        lse = query.new_empty(query.shape[:2], dtype=torch.promote_types(query.dtype, torch.float32))
        for bucket in layout.buckets:
            own, own_lse = flash(padded(query, bucket), padded(key, bucket), padded(value, bucket), True, scale)
            unpad(own, bucket, out)
            unpad(own_lse, bucket, lse)
        for family in layout.asking:
            prompt, responses = slice(*family.prompt), slice(*family.responses)
            seen, seen_lse = flash(row(query[responses]), row(key[prompt]), row(value[prompt]), False, scale)
            merge(out[responses], lse[responses], seen[0].transpose(0, 1), seen_lse[0].T)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        grad, layout, scale = grads[0].contiguous(), ctx.layout, ctx.scale
        back = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        input_grads = [torch.empty_like(column) for column in (query, key, value)]
        for bucket in layout.buckets:
            columns = [padded(column, bucket) for column in (grad, query, key, value, out, lse)]
            silence(columns, bucket)
            for column, part in zip(input_grads, back(*columns, 0.0, True, scale=scale), strict=True):
                unpad(part, bucket, column)
        for family in layout.asking:
            prompt, responses = slice(*family.prompt), slice(*family.responses)
            spans = responses, responses, prompt, prompt, responses, responses
            columns = [
                row(column[span]) for column, span in zip((grad, query, key, value, out, lse), spans, strict=True)
            ]
            parts = back(*columns, 0.0, False, scale=scale)
            for column, span, part in zip(input_grads, (responses, prompt, prompt), parts, strict=True):
                column[span] += part[0].transpose(0, 1)
        return *input_grads, None, None


def padded(column: Tensor, bucket: LengthBucket) -> Tensor:
    """Return the bucket's tokens of a column (N, A, ...) as (B, A, T, ...)."""
    return column.index_select(0, bucket.token_M).view(*bucket.shape, *column.shape[1:]).transpose(1, 2)


def unpad(part: Tensor, bucket: LengthBucket, column: Tensor) -> None:
    """Write a bucket's results (B, A, T, ...) to its tokens of the column (N, A, ...)."""
    flat = part.transpose(1, 2).flatten(0, 1)
    column.index_copy_(0, bucket.own_N, flat if bucket.empty_BT is None else flat.index_select(0, bucket.place_N))


def silence(columns: list[Tensor], bucket: LengthBucket) -> None:
    """Zero the gradient of padding: set its incoming gradient to 0 and its log-sum-exp to infinity, in place."""
    if bucket.empty_BT is not None:
        columns[0].masked_fill_(bucket.empty_BT[:, None, :, None], 0.0)
        columns[-1].masked_fill_(bucket.empty_BT[:, None], torch.inf)


def row(column: Tensor) -> Tensor:
    """Return (N, A, ...) as a batch of one, (1, A, N, ...)."""
    return column.transpose(0, 1)[None]


def merge(out: Tensor, lse: Tensor, seen: Tensor, seen_lse: Tensor) -> None:
    """Merge attention to the prompt (N, A, D) into attention to the response itself, in place."""
    whole = torch.logaddexp(lse, seen_lse)
    out.mul_((lse - whole).exp()[..., None]).addcmul_(seen, (seen_lse - whole).exp()[..., None].to(seen.dtype))
    lse.copy_(whole)


def attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float,
    layout: PackedLayout | None = None, **options: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """The attention function for transformers: over ``layout``, or scaled dot product attention without one."""
    if layout is None:
        plain: Callable[..., tuple[Tensor, None]] = ALL_ATTENTION_FUNCTIONS["sdpa"]
        return plain(module, query, key, value, mask, scaling=scaling, **options)
    if query.is_cuda:
        return attend_on_gpu(query, key, value, layout, scaling), None
    groups = query.shape[1] // key.shape[1]
    key, value = (column.repeat_interleave(groups, 1) if groups > 1 else column for column in (key, value))
    columns = (column[0].transpose(0, 1) for column in (query, key, value))
    out: Tensor = PackedAttention.apply(*columns, layout, scaling)  # type: ignore[no-untyped-call]
    return out[None], None


def enable(model: PreTrainedModel) -> None:
    """Let the model's layers take a ``layout``; without one they work as before. Raises ValueError."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation(NAME)
