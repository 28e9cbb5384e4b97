"""Who runs beside whom: inputs side by side, or one alone where elapsed time has to be beyond doubt."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

MOST_ALONE = 0.2  # of all time


class Gate:
    """Lets inputs run side by side, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running, self._closed = 0, False
        self._begun, self._alone = time.monotonic(), 0.0

    @contextmanager
    def second_chance(self) -> Iterator[None]:
        """Run alone; beside others if much of the time so far went by alone, so that nobody can stall the rest."""
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
        """Run beside others, once nobody runs alone or waits to."""
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
        """Run alone: nobody new begins, and those who run have ended."""
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
