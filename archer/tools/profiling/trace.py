"""torch.profiler's trace of one step, and what its operators took, by part of the step.

Seconds in a trace are longer than those of a step that nobody traces, most of all where operators are small: they
serve to compare operators. A part that calls again and again (decoding) is traced for its first calls alone.
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
CALLS = 256  # traced of one part of a part, at a time; a trace of thousands is too large to open
GAPS = "(between operators: Python)"
Segment = tuple[float, Path]


@dataclass
class TracedOperators:
    """What one part ran in its traced ``calls``: ``operators`` of torch, ``kernels`` on a GPU, microseconds by name."""

    calls: int = 0
    operators: int = 0
    kernels: int = 0
    microseconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class StepTrace:
    """The listener of the step that is traced."""

    def __init__(self, device: torch.device) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # it reports its own start and end else
        self.gpu = device.type == "cuda"
        self.activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.gpu else [])]
        self.profile = profile(activities=self.activities)
        self.path: Path = ()
        self.calls: dict[Path, int] = defaultdict(int)
        self.paused: Path | None = None
        self.profile.start()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Mark a stretch; once it came too often, trace no more until the part around it ends."""
        if threading.current_thread() is not threading.main_thread():  # torch does not trace it
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
        """End it."""
        self.profile.stop()

    def write(self, file: File) -> None:
        """Write what chrome://tracing and ui.perfetto.dev open."""
        self.profile.export_chrome_trace(str(file))

    def operators(self) -> dict[Path, TracedOperators]:
        """Return what ran in which part; what ran in none, under ()."""
        return sorted_out(list(self.profile.events() or []), self.gpu)  # type: ignore[no-untyped-call]


def sorted_out(events: Sequence[Any], gpu: bool) -> dict[Path, TracedOperators]:
    """Return the operators by the part within whose time they began: the backward pass may have its own thread."""
    found: dict[Path, TracedOperators] = defaultdict(TracedOperators)
    host = [event for event in events if event.device_type.name == "CPU"]
    marks = [event for event in host if event.name.startswith(MARK)]
    segments = timeline(marks)
    starts = [start for start, _ in segments]
    for event in marks:
        path = tuple(event.name.removeprefix(MARK).split("/"))
        found[path].calls += 1
        if not gpu:
            found[path].microseconds[GAPS] += event.self_cpu_time_total
    for event in host:
        place = bisect_right(starts, event.time_range.start) - 1
        if event.name.startswith(MARK) or place < 0:
            continue
        part = found[segments[place][1]]
        part.kernels += len(event.kernels)
        part.microseconds[event.name] += event.self_device_time_total if gpu else event.self_cpu_time_total
        part.counts[event.name] += 1
        parent = event.cpu_parent
        part.operators += event.name.startswith("aten::") and not (parent and parent.name.startswith("aten::"))
    return found


def timeline(marks: Sequence[Any]) -> list[Segment]:
    """Return from when on which part runs, the innermost, by time."""
    ends = [(mark.time_range.end, 0, ()) for mark in marks]
    starts = [(mark.time_range.start, 1, tuple(mark.name.removeprefix(MARK).split("/"))) for mark in marks]
    stack: list[Path] = [()]
    segments: list[Segment] = []
    for moment, begins, path in sorted([*ends, *starts]):
        stack = [*stack, path] if begins else stack[:-1]
        segments.append((moment, stack[-1]))
    return segments
