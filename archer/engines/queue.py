"""The requests of one call of an engine: those that wait, and those that come as others end."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator as Stepped
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from archer.types import Problem, Request, Rollout


class RequestQueue(Protocol):
    """Hands out the requests of one call. Engines and consumers of their rollouts use it from one thread."""

    @property
    def logps(self) -> bool:
        """Whether the rollouts need log-probs and entropies, as in training."""
        ...

    @property
    def waiting(self) -> Sequence[Request]:
        """The requests that :meth:`take` hands out next, in order."""
        ...

    @property
    def growing(self) -> bool:
        """Whether further requests may come once rollouts end."""
        ...

    def take(self, free: int, idle: bool) -> list[Request]:
        """Return at most ``free`` of the waiting requests; where none waits, the queue may first make further ones.

        An engine asks whenever rows are free and none waits, so that further requests start before the slowest row
        ends. ``idle`` says that nothing runs: an empty list then ends the call.
        """
        ...


class FixedQueue:
    """A :class:`RequestQueue` of a list of requests. ``logps`` False is for an evaluation, which needs none."""

    growing = False

    def __init__(self, requests: Iterable[Request], logps: bool = True) -> None:
        self.waiting = deque(requests)
        self.logps = logps

    def take(self, free: int, idle: bool) -> list[Request]:
        """Return the next ``free`` requests, or all that are left."""
        return take_first(self.waiting, free)


def take_first(waiting: deque[Request], free: int) -> list[Request]:
    """Remove and return the first ``free`` requests, or all that are left."""
    return [waiting.popleft() for _ in range(min(free, len(waiting)))]


def requests_for(problem: Problem, samples: Iterable[int], seed: int) -> list[Request]:
    """Return a request for each of a problem's ``samples``."""
    return [Request(problem, sample, seed) for sample in samples]


@contextmanager
def closed_after(rollouts: Iterator[Rollout]) -> Iterator[Iterator[Rollout]]:
    """Give what an engine's ``generate`` returned, and end the call with the context.

    Whoever stops before the last rollout, or fails, so leaves the engine free for the next call.
    """
    try:
        yield rollouts
    finally:
        if isinstance(rollouts, Stepped):
            rollouts.close()
