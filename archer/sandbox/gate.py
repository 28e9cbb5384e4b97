"""A lock with two modes: inputs run concurrently, or one runs alone so that its elapsed time can be trusted.

It also keeps the account of second runs, which hogs may get as well as honest programs: one lone run at a time and a
small share of all time, and a bound on the time of second runs that came to nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MOST_ALONE = 0.2  # share of any stretch of time that lone runs take, the waits for those under way included
MOST_WAIT = 20.0  # seconds that a lone run waits for those under way, which are beside it after that
# In units of the limit on elapsed time:
MOST_WASTED = 0.25  # of second runs that came to nothing, for each unit of first runs
FREE_UNITS = 24.0  # of such second runs beyond that share


class Gate:
    """Lets inputs run concurrently, or one alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._changed = threading.Condition()
        self._running, self._closed = 0, False
        self._clock, self._promised, self._next, self._wasted = clock, False, clock(), 0.0

    @contextmanager
    def second_chance(self) -> Iterator[bool]:
        """Run alone, or concurrently where another lone run is promised or the last one was not long ago.

        Yields whether it is alone.
        """
        with self._changed:
            alone = not self._promised and self._clock() >= self._next
            self._promised = self._promised or alone
        if not alone:
            with self.beside_others():
                yield False
            return
        begin = self._clock()
        try:
            with self.alone():
                yield True
        finally:
            with self._changed:
                now = self._clock()
                self._promised, self._next = False, now + (now - begin) * (1 / MOST_ALONE - 1)

    @property
    def grants_more(self) -> bool:
        """Whether second runs have not come to nothing too often."""
        return self._wasted <= FREE_UNITS

    def count_first(self, units: float) -> None:
        """Count a first run that took so many times the limit on elapsed time."""
        with self._changed:
            self._wasted = max(0.0, self._wasted - MOST_WASTED * units)

    def count_wasted(self, units: float) -> None:
        """Count a second run that came to nothing and took so many times the limit on elapsed time."""
        with self._changed:
            self._wasted += units

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        """Run concurrently, once no lone run is under way or waiting."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Run alone: hold back new runs, and wait for those under way, though not for long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
            self._changed.wait_for(lambda: not self._running, MOST_WAIT)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
