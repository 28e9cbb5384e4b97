"""Responses in one row without padding, each group's prompt once: where every token lies and what it may see.

A family is a prompt and the responses to it, one behind the other. Its prompt, and each of its responses, is a
segment: causal in itself, and a response sees its family's whole prompt besides. N tokens of the row, B segments of a
bucket, T tokens of its longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from archer.trainer.batch import TrainSample

RAGGED = 1.5  # segments up to this much longer than a bucket's shortest are padded to one length
SHORT = 16  # so are all up to this length: a bucket costs more than their padding
Span = tuple[int, int]  # the first token, and the one behind the last


@dataclass(frozen=True)
class PromptFamily:
    """Where a prompt lies, and the tokens of all its responses behind it."""

    prompt: Span
    responses: Span


@dataclass(frozen=True)
class LengthBucket:
    """Segments of like length as rows of a padded batch (B, T).

    ``token_M`` are the tokens of its M = B x T places; ``place_N`` the places that are no padding, ``own_N`` their
    tokens. ``empty_BT`` is the padding, None where there is none.
    """

    shape: tuple[int, int]
    token_M: Tensor
    place_N: Tensor
    own_N: Tensor
    empty_BT: Tensor | None


@dataclass(frozen=True)
class PackedLayout:
    """The row's segments, in their order, and its families."""

    segments: tuple[Span, ...]
    families: tuple[PromptFamily, ...]

    def __len__(self) -> int:
        return self.segments[-1][1]

    @property
    def asking(self) -> list[PromptFamily]:
        """The families whose prompt a token behind it sees: of one-token responses there is none."""
        return [one for one in self.families if one.responses[0] < one.responses[1]]

    @property
    def pairs(self) -> int:
        """Queries x keys that they may see."""
        own = sum((stop - start) * (stop - start + 1) // 2 for start, stop in self.segments)
        prompts = ((one.prompt[1] - one.prompt[0], one.responses[1] - one.responses[0]) for one in self.families)
        return own + sum(keys * queries for keys, queries in prompts)

    @cached_property
    def buckets(self) -> tuple[LengthBucket, ...]:
        """All segments, those of like length together."""
        ordered = sorted(self.segments, key=lambda span: span[1] - span[0])
        found: list[list[Span]] = []
        for span in ordered:
            shortest = found[-1][0][1] - found[-1][0][0] if found else 0
            if found and span[1] - span[0] <= max(SHORT, RAGGED * shortest):
                found[-1].append(span)
            else:
                found.append([span])
        return tuple(map(bucket, found))


def bucket(spans: Sequence[Span]) -> LengthBucket:
    """Return the segments as rows, ascending in length; what pads a row is its segment's last token."""
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
    """What one forward pass reads: token ids, one row where packed, else a padded row a response.

    ``place_N`` says in which of the last hidden states, taken as one row, each token ``target_N`` is predicted. The
    last token of a response is predicted and predicts nothing, so it is not among the ids.
    """

    id_BT: Tensor
    position_BT: Tensor
    place_N: Tensor
    target_N: Tensor
    layout: PackedLayout | None = None

    def to(self, device: torch.device) -> ForwardInputs:
        """Return the same on ``device``."""
        columns = (self.id_BT, self.position_BT, self.place_N, self.target_N)
        id_BT, position_BT, place_N, target_N = (column.to(device, non_blocking=True) for column in columns)
        return ForwardInputs(id_BT, position_BT, place_N, target_N, self.layout)

    def only(self, wanted_N: Tensor) -> ForwardInputs:
        """Return the same with no other targets than the ``wanted_N`` ones."""
        return (
            self if wanted_N.all() else replace(self, place_N=self.place_N[wanted_N], target_N=self.target_N[wanted_N])
        )

    @property
    def work(self) -> tuple[int, int, int]:
        """Tokens through the layers, pairs that attention compares, and rows through the head."""
        rows, width = self.id_BT.shape
        pairs = self.layout.pairs if self.layout else rows * width * (width + 1) // 2
        return rows * width, pairs, len(self.target_N)


def packed(responses: Sequence[TrainSample]) -> ForwardInputs:
    """Return the responses as one row; those to one prompt share it where they come one after the other."""
    ids: list[int] = []
    positions: list[int] = []
    places: list[int] = []
    segments: list[Span] = []
    families: list[PromptFamily] = []
    for prompt, family in groupby(responses, key=lambda one: one.prompt):
        first = len(ids)
        last = first + len(prompt) - 1  # predicts the first token of every response
        ids += prompt
        positions += range(len(prompt))
        segments.append((first, len(ids)))
        for one in family:
            start, inner = len(ids), len(one.tokens) - 1
            ids += one.tokens[:-1]
            positions += range(len(prompt), len(prompt) + inner)
            places += [last, *range(start, start + inner)]
            if inner:
                segments.append((start, start + inner))
        families.append(PromptFamily((first, last + 1), (last + 1, len(ids))))
    targets = [token for one in responses for token in one.tokens]
    id_N, position_N, place_N, target_N = map(torch.tensor, (ids, positions, places, targets))
    return ForwardInputs(
        id_N[None], position_N[None], place_N, target_N, PackedLayout(tuple(segments), tuple(families))
    )


def pieces(responses: Sequence[TrainSample], budget: int, least: int = 1) -> list[list[int]]:
    """Cut the responses, in their order, into runs of about equal cost, each at most ``budget`` tokens as packed.

    A prompt is counted once a run. The number of runs is a multiple of ``least``, the last ones empty where there is
    nothing left; a response longer than the budget gets a run of its own.
    """
    if not responses:
        return [[] for _ in range(least)]
    limit = max(budget, max(map(len, responses)))
    count = -(-len(cut(responses, limit)) // least) * least
    low = min(limit, sum(map(len, responses)) // count // 2)
    while low < limit:  # the smallest limit that still needs no more runs: they come out level
        middle = (low + limit) // 2
        if len(cut(responses, middle)) <= count:
            limit = middle
        else:
            low = middle + 1
    runs = cut(responses, limit)
    return runs + [[] for _ in range(count - len(runs))]


def cut(responses: Sequence[TrainSample], limit: int) -> list[list[int]]:
    """Fill runs one after the other, each up to ``limit`` tokens but always with one response."""
    runs: list[list[int]] = []
    filled = 0
    for row, one in enumerate(responses):
        shared = bool(runs) and responses[row - 1].prompt == one.prompt
        cost = len(one) - len(one.prompt) * shared
        if runs and filled + cost <= limit:
            runs[-1].append(row)
            filled += cost
        else:
            runs.append([row])
            filled = len(one)
    return runs
