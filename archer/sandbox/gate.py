"""A lock with two modes: inputs run concurrently, or one runs alone so that its elapsed time can be trusted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

MOST_ALONE = 0.2  # share of all time that lone runs may take


class Gate:
    """Lets inputs run concurrently, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running, self._closed = 0, False
        self._begun, self._alone = time.monotonic(), 0.0

    @contextmanager
    def second_chance(self) -> Iterator[None]:
        """Run alone, or concurrently once lone runs took more than ``MOST_ALONE``, so that none can stall the rest."""
        begin = time.monotonic()
        if self._alone > MOST_ALONE * (begin - self._begun):
            with self.beside_others():
                yield
            return
        with self.alone():
            try:
                yield
            finally:
                self._alone += time.monotonic() - begin

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
        """Run alone: hold back new runs, and wait for those under way."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
            self._changed.wait_for(lambda: not self._running)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
