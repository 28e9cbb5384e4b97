"""Attention over packed rows on a GPU: flex attention under a block mask, built from the layout without N x N values.

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
    """Return (1, N, A, D) for queries (1, A, N, D), keys and values with as many heads or fewer."""
    mask = masks(layout, query.device)
    out: Tensor = compiled()(query, key, value, block_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1])
    return out.transpose(1, 2)


@cache
def compiled() -> Callable[..., Any]:
    """Return flex attention as a kernel; rows come in any length."""
    return torch.compile(flex_attention, dynamic=True)


@lru_cache(2)  # one for all layers, there and back
def masks(layout: PackedLayout, device: torch.device) -> BlockMask:
    """Return the block mask of a layout."""
    return block_mask(layout, device)


def block_mask(layout: PackedLayout, device: torch.device) -> BlockMask:
    """Return which blocks of 128 x 128 hold a pair that may see each other, and which surely hold nothing else.

    Segments and families come in ascending order, so a block's smallest and largest number tell what it holds.
    """
    segment_N, family_N, prompt_N = (column.to(device) for column in columns(layout))

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = segment_N[query] == segment_N[key]
        asked = prompt_N[key] & (family_N[query] == family_N[key])
        return (query >= key) & (same | asked)

    low_K, high_K = ends(segment_N)
    family_K, last_K = ends(family_N)
    prompt_K = ends(torch.where(prompt_N, family_N, -1))[1]  # the last family whose prompt is in the block
    all_prompt_K = ends((~prompt_N).int())[1] == 0
    block = torch.arange(len(low_K), device=device)
    before = block[None, :] <= block[:, None]
    touched = before & ((high_K[None] >= low_K[:, None]) | (prompt_K[None] >= family_K[:, None]))
    one = low_K == high_K
    same = one[:, None] & one[None] & (low_K[:, None] == low_K[None])
    one_family = family_K == last_K
    asked = one_family[:, None] & (one_family & all_prompt_K)[None] & (family_K[:, None] == family_K[None])
    whole = (block[None, :] < block[:, None]) & (same | asked)
    if len(layout) % BLOCK:
        whole[-1] = False  # its last rows are behind the end
    partial = touched & ~whole
    return BlockMask.from_kv_blocks(
        *listed(partial), *listed(whole), BLOCK_SIZE=BLOCK, mask_mod=seen, seq_lengths=(len(layout), len(layout))
    )


def columns(layout: PackedLayout) -> tuple[Tensor, Tensor, Tensor]:
    """Return each token's segment and family, and whether it is of a prompt; all (N,)."""
    lengths = torch.tensor([stop - start for start, stop in layout.segments])
    segment_N = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    sizes = torch.tensor([one.responses[1] - one.prompt[0] for one in layout.families])
    family_N = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    prompt_N = torch.zeros(len(layout), dtype=torch.bool)
    for family in layout.families:
        prompt_N[slice(*family.prompt)] = True
    return segment_N, family_N, prompt_N


def ends(column_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of each block, (K,); the last one may be short."""
    short = -len(column_N) % BLOCK
    filled = pad(column_N[None], (0, short), value=int(column_N[-1])).view(-1, BLOCK)
    return filled.amin(1), filled.amax(1)


def listed(wanted_KK: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many key blocks each query block wants, and which, the wanted ones first; with batch and head axes."""
    count = wanted_KK.sum(1, dtype=torch.int32)
    order = torch.argsort(wanted_KK.int(), dim=1, descending=True, stable=True).int()
    return count[None, None], order[None, None]
