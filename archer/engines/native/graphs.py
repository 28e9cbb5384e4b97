"""Decode steps on a GPU as CUDA graphs: captured once for each size, then replayed without host work.

A step works on the first ``rows`` of static buffers, over their first ``span`` positions. Sizes are rounded up to a
few, so that few graphs are captured; the extra rows are done, and tokens sampled for them are discarded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

Step = Callable[[int, int], None]  # rows, span
Capture = Callable[[Callable[[], None]], Callable[[], None]]  # takes a function, returns one that replays it
SPANS = 8  # at most this many different spans
SHORTEST = 128  # positions: for shorter spans rounding up costs less than another graph
logger = logging.getLogger(__name__)


class Graphs:
    """Runs ``step`` directly on the first call of a size, and as the graph that ``capture`` made from then on.

    The first call also lets libraries load and allocate their workspaces, which a capture needs. If a capture fails,
    a warning is logged and every step runs directly.
    """

    def __init__(self, step: Step, rows: int, width: int, capture: Capture) -> None:
        self.step, self.rows, self.width, self.capture = step, rows, width, capture
        self.stride = max(SHORTEST, -(-width // SPANS))
        self.met: dict[tuple[int, int], Callable[[], None] | None] = {}
        self.failed = False

    def __call__(self, rows: int, span: int) -> None:
        """Run one step of at least ``rows`` rows over at least ``span`` positions."""
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
    """Return the smallest of 1, 2, 3, 4, 6, 8, 12, 16, ... that is at least ``rows``, but at most ``most``."""
    power = 1 << (rows - 1).bit_length()
    between = power * 3 // 4
    return min(most, between if between >= rows else power)


def cuda_capture() -> Capture:
    """Return a capture into CUDA graphs that share one memory pool."""
    pool: Any = torch.cuda.graph_pool_handle()

    def capture(run: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            run()
        return graph.replay

    return capture
