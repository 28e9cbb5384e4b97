"""Decode steps on a GPU as CUDA graphs: captured once for each size, replayed without the host's part.

A step works on the first ``rows`` of static buffers, over their first ``span`` positions. Sizes are rounded up to a
few, so that few graphs are captured; rows beyond those that decode are done, and what is drawn for them is nobody's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

Step = Callable[[int, int], None]  # rows, span
Capture = Callable[[Callable[[], None]], Callable[[], None]]  # from what to run to what runs it again
SPANS = 8  # sizes that the positions of a cache are cut into, at most
SHORTEST = 128  # positions: below, rounding up costs less than another graph
logger = logging.getLogger(__name__)


class Graphs:
    """Runs ``step``: by itself for the first call of a size, from then on by what ``capture`` made of it.

    The first call also is what a capture needs before it: libraries load and make their workspaces. Where capturing
    fails, the log says so and every step runs by itself.
    """

    def __init__(self, step: Step, rows: int, width: int, capture: Capture) -> None:
        self.step, self.rows, self.width, self.capture = step, rows, width, capture
        self.stride = max(SHORTEST, -(-width // SPANS))
        self.met: dict[tuple[int, int], Callable[[], None] | None] = {}
        self.failed = False

    def __call__(self, rows: int, span: int) -> None:
        """Run one step of at least ``rows`` over at least ``span`` positions."""
        size = rounded(rows, self.rows), min(self.width, -(-span // self.stride) * self.stride)
        if size in self.met and self.met[size] is None and not self.failed:
            self.met[size] = self._captured(*size)
        run = self.met.setdefault(size, None)
        if run is None:
            self.step(*size)
        else:
            run()

    def _captured(self, rows: int, span: int) -> Callable[[], None] | None:
        try:
            return self.capture(lambda: self.step(rows, span))
        except RuntimeError as error:
            self.failed = True
            logger.warning("decode steps are not captured as CUDA graphs, which makes them slower: %s", error)
            return None


def rounded(rows: int, most: int) -> int:
    """Return the least of 1, 2, 3, 4, 6, 8, 12, 16, ... that holds ``rows``, ``most`` at most."""
    power = 1 << (rows - 1).bit_length()
    between = power * 3 // 4
    return min(most, between if between >= rows else power)


def cuda_capture() -> Capture:
    """Return a capture into graphs that share one pool of memory."""
    pool: Any = torch.cuda.graph_pool_handle()

    def capture(run: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            run()
        return graph.replay

    return capture
