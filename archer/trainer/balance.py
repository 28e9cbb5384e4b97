"""Dividing responses among ranks: each whole response on one rank, with balanced token counts.

Every rank holds all responses of a step and computes the same split without communication.
"""

from __future__ import annotations

from collections.abc import Sequence

from archer.trainer.batch import TrainSample, micro_batches
from archer.trainer.packing import pieces


def shares(lengths: Sequence[int], world: int) -> list[list[int]]:
    """Return each rank's row indices, ascending; the longest row left goes to the rank with the fewest tokens."""
    loads = [0] * world
    rows: list[list[int]] = [[] for _ in range(world)]
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        rank = min(range(world), key=lambda rank: (loads[rank], len(rows[rank]), rank))
        loads[rank] += lengths[row]
        rows[rank].append(row)
    return [sorted(own) for own in rows]


def rounds(responses: Sequence[TrainSample], budget: int, rank: int, world: int, sharing: bool) -> list[list[int]]:
    """Return the micro-batches of ``rank`` as lists of row indices, each of at most ``budget`` tokens.

    Every rank gets the same number, at least one, padded with [], as sharded weights need collective calls in each.
    With ``sharing``, groups stay together as far as the budget allows.
    """
    if sharing:
        return pieces(responses, budget, world)[rank::world]
    lengths = [len(response) for response in responses]
    per_rank = []
    for own in shares(lengths, world):
        micros = micro_batches([lengths[row] for row in own], budget)
        per_rank.append([[own[index] for index in micro] for micro in micros])
    most = max(1, *map(len, per_rank))
    return per_rank[rank] + [[] for _ in range(most - len(per_rank[rank]))]
