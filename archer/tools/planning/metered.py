"""Bytes that are allocated while code runs, from every allocation that torch reports to its profiler.

On a GPU the numbers are those of torch's allocator.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

Levels = dict[str, tuple[float, float]]  # by mark: bytes held there, and the peak since the previous mark


@contextmanager
def metered(levels: Levels, device: torch.device) -> Iterator[Callable[[str], None]]:
    """Yield a function that sets a mark; at the end ``levels`` holds each mark's bytes, allocated since the start."""
    if device.type == "cuda":

        def note(name: str) -> None:
            torch.cuda.synchronize()
            levels[name] = (float(torch.cuda.memory_allocated()), float(torch.cuda.max_memory_allocated()))
            torch.cuda.reset_peak_memory_stats()

        yield note
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # without it the profiler prints its start and end
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:

        def mark(name: str) -> None:
            with torch.profiler.record_function(f"mark {name}"):
                pass

        yield mark
    live = peak = 0.0
    events = profile.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
        elif event.name().startswith("mark "):
            levels[event.name().removeprefix("mark ")] = (live, peak)
            peak = live
