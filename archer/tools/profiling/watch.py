"""Seconds, calls and counted work of every part of a step, and of parts within parts.

On a GPU, the loop's parts end by waiting for the device; parts within them are timed by the device's own events, so
that the host runs ahead as it does without profiling.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from archer.system import PassWork, region
from archer.tools.profiling.rates import wait

Path = tuple[str, ...]  # a part of the loop, and a part within it: ("generate", "decode")
BESIDE = "beside: "  # prefix of a part that another thread runs meanwhile: prefetched rollouts
MECHANICS = {"forward": "forward", "reference": "forward", "backward": "backward", "step": "optimizer"}
DECODER = {"_admit": "prefill", "_decode": "decode", "_retire": "retire"}


@dataclass
class TimedRegion:
    """The seconds of a part in all its calls, and in ``each`` step."""

    seconds: float = 0.0
    calls: int = 0
    each: list[float] = field(default_factory=list)


@dataclass
class ProfiledSteps:
    """Measurements of ``steps`` steps together; work is by part of the loop and pass: ("generate", "decode")."""

    steps: int = 0
    seconds: list[float] = field(default_factory=list)
    parts: dict[Path, TimedRegion] = field(default_factory=lambda: defaultdict(TimedRegion))
    work: dict[tuple[str, str], PassWork] = field(default_factory=lambda: defaultdict(PassWork))


class Stopwatch:
    """The listener of timed steps. ``tallies`` count the work done on ``device``."""

    def __init__(self, device: torch.device, tallies: Sequence[Mapping[str, PassWork]]) -> None:
        self.device, self.tallies = device, tallies
        self.seen = ProfiledSteps()
        self._begun = 0.0
        self._thread = threading.local()
        self._events: list[tuple[Path, torch.cuda.Event, torch.cuda.Event]] = []

    def begin(self) -> None:
        """Begin a step."""
        wait(self.device)
        self._begun = time.perf_counter()

    def end(self) -> None:
        """End a step."""
        wait(self.device)
        self.seen.seconds.append(time.perf_counter() - self._begun)
        self.seen.steps += 1
        for path, start, stop in self._events:
            self._add(path, start.elapsed_time(stop) / 1000)
        self._events.clear()
        for part in self.seen.parts.values():
            earlier = [0.0] * (self.seen.steps - 1 - len(part.each))  # for steps without this part
            part.each += [*earlier, part.seconds - sum(part.each)]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a region; outermost regions count work too."""
        outer: Path = getattr(self._thread, "path", ())
        if outer:
            with self._inner((*outer, name)):
                yield
            return
        main = threading.current_thread() is threading.main_thread()
        path = (name if main else BESIDE + name,)
        before = self._totals()
        wait(self.device)
        start = time.perf_counter()
        try:
            with self._within(path):
                yield
        finally:
            wait(self.device)
            self._add(path, time.perf_counter() - start)
            self._count(path[0], before)

    @contextmanager
    def _inner(self, path: Path) -> Iterator[None]:
        if self.device.type != "cuda":
            start = time.perf_counter()
            try:
                with self._within(path):
                    yield
            finally:
                self._add(path, time.perf_counter() - start)
            return
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        first.record()
        with self._within(path):
            yield
        last.record()
        self._events.append((path, first, last))

    @contextmanager
    def _within(self, path: Path) -> Iterator[None]:
        self._thread.path = path
        try:
            yield
        finally:
            self._thread.path = path[:-1]

    def _add(self, path: Path, seconds: float) -> None:
        self.seen.parts[path].seconds += seconds
        self.seen.parts[path].calls += 1

    def _totals(self) -> dict[str, tuple[int, int, int, int]]:
        pairs = ((name, work) for tally in self.tallies for name, work in tally.items())
        return {name: (work.calls, work.tokens, work.pairs, work.rows) for name, work in pairs}

    def _count(self, part: str, before: Mapping[str, tuple[int, int, int, int]]) -> None:
        for name, after in self._totals().items():
            grown = [new - old for new, old in zip(after, before.get(name, (0, 0, 0, 0)), strict=True)]
            if any(grown):
                work, (calls, tokens, pairs, rows) = self.seen.work[part, name], grown
                work.calls += calls
                work.tokens += tokens
                work.pairs += pairs
                work.rows += rows


@contextmanager
def spans_of(owner: object, names: Mapping[str, str]) -> Iterator[None]:
    """Make regions of an object's or a class's methods, with the names given; undone at the end."""
    own = {method: vars(owner).get(method) for method in names}  # a class has its methods in vars(), an object does not
    for method, name in names.items():
        setattr(owner, method, _spanned(getattr(owner, method), name))
    try:
        yield
    finally:
        for method, before in own.items():
            if before is None:
                delattr(owner, method)
            else:
                setattr(owner, method, before)


def _spanned(method: object, name: str) -> object:
    @functools.wraps(method)  # type: ignore[arg-type]
    def run(*args: object, **kwargs: object) -> object:
        with region(name):
            return method(*args, **kwargs)  # type: ignore[operator]

    return run
