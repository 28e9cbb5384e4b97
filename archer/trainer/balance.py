"""Which rank trains on which responses: whole ones, each on one rank, token counts balanced.

Every rank holds all responses of a step and works the same split out by itself; nothing is sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from archer.trainer.batch import TrainSample, micro_batches
from archer.trainer.packing import pieces


def shares(lengths: Sequence[int], world: int) -> list[list[int]]:
    """Return each rank's rows, ascending: the longest first to the rank with the fewest tokens so far."""
    loads = [0] * world
    rows: list[list[int]] = [[] for _ in range(world)]
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        rank = min(range(world), key=lambda rank: (loads[rank], len(rows[rank]), rank))
        loads[rank] += lengths[row]
        rows[rank].append(row)
    return [sorted(own) for own in rows]


def rounds(responses: Sequence[TrainSample], budget: int, rank: int, world: int, sharing: bool) -> list[list[int]]:
    """Return the micro-batches of ``rank`` as rows, [] where only others still have one; at least one.

    Every rank has as many: collective calls of sharded weights happen inside each. Where prompts are shared, groups
    stay together as far as the budget lets them.
    """
    if sharing:
        return pieces(responses, budget, world)[rank::world]
    lengths = [len(one) for one in responses]
    cut = []
    for own in shares(lengths, world):
        micros = micro_batches([lengths[row] for row in own], budget)
        cut.append([[own[place] for place in micro] for micro in micros])
    most = max(1, *map(len, cut))
    return cut[rank] + [[] for _ in range(most - len(cut[rank]))]
