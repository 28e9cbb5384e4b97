"""Attention over packed rows on a GPU: flex attention with a block mask, built from the layout without an N x N mask.

N tokens of the row, A heads, D head size, K blocks of the row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad

from archer.trainer.packing import PackedLayout

BLOCK = 128


def attend(query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, scale: float) -> Tensor:
    """Return attention output (1, N, A, D) of queries (1, A, N, D); keys and values may have fewer heads."""
    mask = masks(layout, query.device)
    out: Tensor = compiled()(query, key, value, block_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1])
    return out.transpose(1, 2)


@cache
def compiled() -> Callable[..., Any]:
    """Return flex attention compiled for rows of any length."""
    return torch.compile(flex_attention, dynamic=True)


@lru_cache(2)  # one mask for all layers, forward and backward
def masks(layout: PackedLayout, device: torch.device) -> BlockMask:
    """Return the block mask of a layout."""
    return block_mask(layout, device)


def block_mask(layout: PackedLayout, device: torch.device) -> BlockMask:
    """Return the 128 x 128 blocks that hold a visible (query, key) pair, and those in which every pair is visible.

    Segment and family numbers ascend along the row, so a block's smallest and largest number tell what it holds.
    """
    segment_N, family_N, prompt_N = (column.to(device) for column in columns(layout))

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = segment_N[query] == segment_N[key]
        asked = prompt_N[key] & (family_N[query] == family_N[key])
        return (query >= key) & (same | asked)

    low_K, high_K = ends(segment_N)
    family_K, last_K = ends(family_N)
    prompt_K = ends(torch.where(prompt_N, family_N, -1))[1]  # the last family with prompt tokens in the block
    all_prompt_K = ends((~prompt_N).int())[1] == 0
    block = torch.arange(len(low_K), device=device)
    before = block[None, :] <= block[:, None]
    touched = before & ((high_K[None] >= low_K[:, None]) | (prompt_K[None] >= family_K[:, None]))
    single_K = low_K == high_K
    same = single_K[:, None] & single_K[None] & (low_K[:, None] == low_K[None])
    one_family = family_K == last_K
    asked = one_family[:, None] & (one_family & all_prompt_K)[None] & (family_K[:, None] == family_K[None])
    whole = (block[None, :] < block[:, None]) & (same | asked)
    if len(layout) % BLOCK:
        whole[-1] = False  # its last rows are past the end
    partial = touched & ~whole
    return BlockMask.from_kv_blocks(
        *listed(partial), *listed(whole), BLOCK_SIZE=BLOCK, mask_mod=seen, seq_lengths=(len(layout), len(layout))
    )


def columns(layout: PackedLayout) -> tuple[Tensor, Tensor, Tensor]:
    """Return each token's segment, its family, and whether it belongs to a prompt, each (N,)."""
    lengths = torch.tensor([stop - start for start, stop in layout.segments])
    segment_N = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    sizes = torch.tensor([family.responses[1] - family.prompt[0] for family in layout.families])
    family_N = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    prompt_N = torch.zeros(len(layout), dtype=torch.bool)
    for family in layout.families:
        prompt_N[slice(*family.prompt)] = True
    return segment_N, family_N, prompt_N


def ends(column_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of each block, each (K,); the last block may be short."""
    short = -len(column_N) % BLOCK
    filled = pad(column_N[None], (0, short), value=int(column_N[-1])).view(-1, BLOCK)
    return filled.amin(1), filled.amax(1)


def listed(wanted_KK: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of key blocks per query block, and their indices, wanted ones first (1, 1, K[, K])."""
    count = wanted_KK.sum(1, dtype=torch.int32)
    order = torch.argsort(wanted_KK.int(), dim=1, descending=True, stable=True).int()
    return count[None, None], order[None, None]
