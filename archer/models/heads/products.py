"""Matrix products with at least float32 accumulation and a float32 result, also of bfloat16 factors.

N tokens, S rows being sampled, H hidden size, V vocabulary, C columns of a tile.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from archer.models.heads.tiles import TILE, blocks, wide


def factor_dtype(hidden: Tensor) -> torch.dtype:
    """Return the dtype of the factors: the hidden states' if a GPU multiplies it into float32, else a wide one."""
    half = hidden.dtype in (torch.bfloat16, torch.float16)
    return hidden.dtype if half and has_kernels(hidden) else wide(hidden.dtype)


def has_kernels(hidden: Tensor) -> bool:
    """Return whether Triton's kernels can be used: on a GPU, except for float64, if Triton is installed."""
    return hidden.is_cuda and hidden.dtype != torch.float64 and has_triton()


@lru_cache
def has_triton() -> bool:
    """Return whether Triton is installed, as it is with torch wherever torch has CUDA on Linux."""
    return find_spec("triton") is not None


def factor(weight_CH: Tensor, hidden: Tensor) -> Tensor:
    """Return rows of the weight as a factor, rounded like the hidden states (as engines round float32 masters)."""
    return weight_CH.to(hidden.dtype).to(factor_dtype(hidden))


def multiply(left: Tensor, right: Tensor, out: Tensor, alpha: float = 1.0, beta: float = 0.0) -> Tensor:
    """Set ``out`` to beta x out + alpha x left x right and return it. A GPU takes an ``out`` wider than the factors."""
    if out.dtype == left.dtype:
        return torch.addmm(out, left, right, beta=beta, alpha=alpha, out=out)
    return torch.addmm(out, left, right, out_dtype=out.dtype, beta=beta, alpha=alpha, out=out)


@torch.no_grad()
def logits(hidden_SH: Tensor, weight_VH: Tensor) -> Tensor:
    """Return h W^T (S, V) in float32 (float64 for float64), accumulated in that dtype; without gradient.

    The weight is first cast to the dtype of the hidden states.
    """
    dtype = factor_dtype(hidden_SH)
    out_SV = hidden_SH.new_empty((len(hidden_SH), len(weight_VH)), dtype=wide(hidden_SH.dtype))
    if weight_VH.dtype == dtype == hidden_SH.dtype:
        return multiply(hidden_SH, weight_VH.T, out_SV)
    wider_SH, tile = hidden_SH.to(dtype), TILE.get(hidden_SH.device.type, TILE["cuda"])
    for columns in blocks(len(weight_VH), max(1, tile // weight_VH.shape[1])):  # casts block by block
        multiply(wider_SH, factor(weight_VH[columns], hidden_SH).T, out_SV[:, columns])
    return out_SV
