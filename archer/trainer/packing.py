"""Sequence packing: responses in one row without padding, each group's prompt once.

A family is a prompt followed by the responses to it. The prompt and each response is a segment: attention is causal
within a segment, and a response also sees its family's whole prompt. N tokens of the row, B segments of a bucket, T
tokens of its longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from archer.trainer.batch import IdArray, TrainSample

RAGGED = 1.5  # a bucket's segments are at most this many times as long as its shortest
SHORT = 16  # segments up to this length share a bucket: another one costs more than the padding
Span = tuple[int, int]  # (first token, last token + 1)


@dataclass(frozen=True)
class PromptFamily:
    """The positions of a prompt, and of all its responses after it."""

    prompt: Span
    responses: Span


@dataclass(frozen=True)
class LengthBucket:
    """Segments of similar length as the rows of a padded batch (B, T) with M = B x T cells.

    - ``token_M``: position in the packed row of each cell's token
    - ``place_N``: indices of the cells that are not padding
    - ``own_N``: their positions in the packed row
    - ``empty_BT``: True at padding; None: no padding
    """

    shape: tuple[int, int]
    token_M: Tensor
    place_N: Tensor
    own_N: Tensor
    empty_BT: Tensor | None


@dataclass(frozen=True)
class PackedLayout:
    """The segments and families of a packed row, in order."""

    segments: tuple[Span, ...]
    families: tuple[PromptFamily, ...]

    def __len__(self) -> int:
        return self.segments[-1][1]

    @property
    def asking(self) -> list[PromptFamily]:
        """The families with a response token in the row; one-token responses have none."""
        return [family for family in self.families if family.responses[0] < family.responses[1]]

    @property
    def pairs(self) -> int:
        """The number of visible (query, key) pairs."""
        own = sum((stop - start) * (stop - start + 1) // 2 for start, stop in self.segments)
        prompts = (
            (family.prompt[1] - family.prompt[0], family.responses[1] - family.responses[0]) for family in self.families
        )
        return own + sum(keys * queries for keys, queries in prompts)

    @cached_property
    def buckets(self) -> tuple[LengthBucket, ...]:
        """All segments, grouped by similar length."""
        ordered = sorted(self.segments, key=lambda span: span[1] - span[0])
        buckets: list[list[Span]] = []
        for span in ordered:
            shortest = buckets[-1][0][1] - buckets[-1][0][0] if buckets else 0
            if buckets and span[1] - span[0] <= max(SHORT, RAGGED * shortest):
                buckets[-1].append(span)
            else:
                buckets.append([span])
        return tuple(map(bucket, buckets))


def bucket(spans: Sequence[Span]) -> LengthBucket:
    """Return the segments, ascending in length, as a bucket; a row is padded with its segment's last token."""
    start_B1 = torch.tensor([start for start, _ in spans])[:, None]
    length_B1 = torch.tensor([stop - start for start, stop in spans])[:, None]
    place_T = torch.arange(spans[-1][1] - spans[-1][0])[None]
    token_BT = start_B1 + torch.minimum(place_T, length_B1 - 1)
    empty_BT = place_T >= length_B1
    place_N, token_M = (~empty_BT).flatten().nonzero()[:, 0], token_BT.flatten()
    empty = empty_BT if len(place_N) < len(token_M) else None
    return LengthBucket((len(spans), token_BT.shape[1]), token_M, place_N, token_M[place_N], empty)


@dataclass(frozen=True)
class ForwardInputs:
    """The inputs of a forward pass: one packed row, or a padded row per response.

    Hidden state ``place_N`` of the flattened batch predicts token ``target_N``. The last token of a response predicts
    nothing, so it is not among the ids.
    """

    id_BT: Tensor
    position_BT: Tensor
    place_N: Tensor
    target_N: Tensor
    layout: PackedLayout | None = None

    def to(self, device: torch.device) -> ForwardInputs:
        """Return a copy on ``device``."""
        columns = (self.id_BT, self.position_BT, self.place_N, self.target_N)
        id_BT, position_BT, place_N, target_N = (column.to(device, non_blocking=True) for column in columns)
        return ForwardInputs(id_BT, position_BT, place_N, target_N, self.layout)

    def only(self, wanted_N: Tensor) -> ForwardInputs:
        """Return the inputs with only the targets of the bool mask ``wanted_N``."""
        return (
            self if wanted_N.all() else replace(self, place_N=self.place_N[wanted_N], target_N=self.target_N[wanted_N])
        )

    @property
    def work(self) -> tuple[int, int, int]:
        """The number of tokens through the layers, (query, key) pairs in attention, and rows through the LM head."""
        rows, width = self.id_BT.shape
        pairs = self.layout.pairs if self.layout else rows * width * (width + 1) // 2
        return rows * width, pairs, len(self.target_N)


def packed(responses: Sequence[TrainSample]) -> ForwardInputs:
    """Return the responses as one packed row; consecutive responses to one prompt share it."""
    ids: list[IdArray] = []
    positions: list[IdArray] = []
    places: list[IdArray] = []
    segments: list[Span] = []
    families: list[PromptFamily] = []
    end = 0
    for family in families_of(responses):
        prompt = family[0].prompt
        first, last = end, end + len(prompt) - 1  # the last predicts the first token of every response
        ids.append(prompt)
        positions.append(steps(0, len(prompt)))
        end += len(prompt)
        segments.append((first, end))
        for response in family:
            inner = len(response.tokens) - 1
            ids.append(response.tokens[:-1])
            positions.append(steps(len(prompt), inner))
            places += [steps(last, 1), steps(end, inner)]
            if inner:
                segments.append((end, end + inner))
            end += inner
        families.append(PromptFamily((first, last + 1), (last + 1, end)))
    targets = [response.tokens for response in responses]
    id_N, position_N, place_N, target_N = map(joined, (ids, positions, places, targets))
    return ForwardInputs(
        id_N[None], position_N[None], place_N, target_N, PackedLayout(tuple(segments), tuple(families))
    )


def steps(start: int, count: int) -> IdArray:
    """Return ``count`` whole numbers from ``start`` on."""
    return np.arange(start, start + count, dtype=np.int32)


def joined(parts: Sequence[IdArray]) -> Tensor:
    """Return arrays of ids or positions, one after the other, as an int64 tensor."""
    return torch.from_numpy(np.concatenate(parts, dtype=np.int64))


def families_of(responses: Sequence[TrainSample]) -> list[list[TrainSample]]:
    """Return the responses in runs that share a prompt."""
    runs: list[list[TrainSample]] = []
    for response in responses:
        if runs and same_prompt(runs[-1][0], response):
            runs[-1].append(response)
        else:
            runs.append([response])
    return runs


def same_prompt(one: TrainSample, other: TrainSample) -> bool:
    """Whether two responses are to the same prompt."""
    return one.prompt is other.prompt or np.array_equal(one.prompt, other.prompt)


def pieces(responses: Sequence[TrainSample], budget: int, least: int = 1) -> list[list[int]]:
    """Split the responses, in order, into runs of similar cost, each of at most ``budget`` packed tokens.

    A shared prompt counts once per run. The number of runs is a multiple of ``least``, padded with empty runs; a
    response longer than the budget gets its own run.
    """
    if not responses:
        return [[] for _ in range(least)]
    lengths, shared = list(map(len, responses)), shared_prompts(responses)
    limit = max(budget, max(lengths))
    count = -(-len(cut(lengths, shared, limit)) // least) * least
    low = min(limit, sum(lengths) // count // 2)
    while low < limit:  # find the smallest limit that needs no more runs, to balance them
        middle = (low + limit) // 2
        if len(cut(lengths, shared, middle)) <= count:
            limit = middle
        else:
            low = middle + 1
    runs = cut(lengths, shared, limit)
    return runs + [[] for _ in range(count - len(runs))]


def shared_prompts(responses: Sequence[TrainSample]) -> list[int]:
    """Return the tokens of each response's prompt that the response before it has too: all, or 0."""
    pairs = pairwise(responses)
    return [0, *(len(after.prompt) * same_prompt(before, after) for before, after in pairs)]


def cut(lengths: Sequence[int], shared: Sequence[int], limit: int) -> list[list[int]]:
    """Fill runs one after the other, each with at least one response and else at most ``limit`` tokens."""
    runs: list[list[int]] = []
    filled = 0
    for row, (length, common) in enumerate(zip(lengths, shared, strict=True)):
        if runs and filled + length - common <= limit:
            runs[-1].append(row)
            filled += length - common
        else:
            runs.append([row])
            filled = length
    return runs
