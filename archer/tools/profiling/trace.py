"""torch.profiler's trace of one step, and the time of its operators by part of the step.

A traced step takes longer than an untraced one, most of all where operators are small: traced seconds serve to compare
operators. Of a part that is called again and again (decoding) only the first calls are traced.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from archer.tools.profiling.watch import Path

MARK = "archer: "
CALLS = 256  # traced calls of an inner part at a time; a trace of thousands is too large to open
GAPS = "(between operators: Python)"
Segment = tuple[float, Path]


@dataclass
class TracedOperators:
    """One part's traced ``calls``: torch ``operators``, GPU ``kernels``, microseconds and counts by operator."""

    calls: int = 0
    operators: int = 0
    kernels: int = 0
    microseconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class StepTrace:
    """The listener of the traced step."""

    def __init__(self, device: torch.device) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # without it the profiler prints its start and end
        self.gpu = device.type == "cuda"
        self.activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.gpu else [])]
        self.profile = profile(activities=self.activities)
        self.path: Path = ()
        self.calls: dict[Path, int] = defaultdict(int)
        self.paused: Path | None = None
        self.profile.start()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Mark a region; after too many calls, stop tracing until the part around it ends."""
        if threading.current_thread() is not threading.main_thread():  # torch traces the main thread only
            yield
            return
        outer, path = self.path, (*self.path, name)
        self.calls[path] += 1
        if outer and self.paused is None and self.calls[path] % (CALLS + 1) == 0:
            self.paused = outer
            self.profile.toggle_collection_dynamic(False, self.activities)
        self.path = path
        try:
            with record_function(MARK + "/".join(path)):
                yield
        finally:
            self.path = outer
            if self.paused == path:
                self.paused = None
                self.profile.toggle_collection_dynamic(True, self.activities)

    def stop(self) -> None:
        """End the trace."""
        self.profile.stop()

    def write(self, file: File) -> None:
        """Write the trace for chrome://tracing and ui.perfetto.dev."""
        self.profile.export_chrome_trace(str(file))

    def operators(self) -> dict[Path, TracedOperators]:
        """Return the operators of each part; those in no part are under ()."""
        return sorted_out(list(self.profile.events() or []), self.gpu)  # type: ignore[no-untyped-call]


def sorted_out(events: Sequence[Any], gpu: bool) -> dict[Path, TracedOperators]:
    """Return the operators by the part during which they began; the backward pass may have a thread of its own."""
    by_part: dict[Path, TracedOperators] = defaultdict(TracedOperators)
    host = [event for event in events if event.device_type.name == "CPU"]
    marks = [event for event in host if event.name.startswith(MARK)]
    segments = timeline(marks)
    starts = [start for start, _ in segments]
    for event in marks:
        path = tuple(event.name.removeprefix(MARK).split("/"))
        by_part[path].calls += 1
        if not gpu:
            by_part[path].microseconds[GAPS] += event.self_cpu_time_total
    for event in host:
        segment = bisect_right(starts, event.time_range.start) - 1
        if event.name.startswith(MARK) or segment < 0:
            continue
        part = by_part[segments[segment][1]]
        part.kernels += len(event.kernels)
        part.microseconds[event.name] += event.self_device_time_total if gpu else event.self_cpu_time_total
        part.counts[event.name] += 1
        parent = event.cpu_parent
        part.operators += event.name.startswith("aten::") and not (parent and parent.name.startswith("aten::"))
    return by_part


def timeline(marks: Sequence[Any]) -> list[Segment]:
    """Return the segments of the step in order of time: the start, and the innermost part that runs from then on."""
    ends = [(mark.time_range.end, 0, ()) for mark in marks]
    starts = [(mark.time_range.start, 1, tuple(mark.name.removeprefix(MARK).split("/"))) for mark in marks]
    stack: list[Path] = [()]
    segments: list[Segment] = []
    for moment, begins, path in sorted([*ends, *starts]):
        stack = [*stack, path] if begins else stack[:-1]
        segments.append((moment, stack[-1]))
    return segments
