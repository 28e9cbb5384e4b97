"""Threads in which rewards of the kind ``service`` wait for their servers.

They are daemons, unlike those of ``concurrent.futures``: a process that ends does not wait for a server that hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

CONCURRENCY = 16  # calls at a time of a reward that says nothing of it
T = TypeVar("T")
_Work = tuple["Future[T]", Callable[[], T]]


@dataclass
class _Lane(Generic[T]):
    """The threads of one reward; ``work`` is what they have not begun, None the end."""

    reward: object
    most: int
    work: SimpleQueue[_Work[T] | None] = field(default_factory=SimpleQueue)
    threads: int = 0


class ServiceThreads(Generic[T]):
    """Runs calls of rewards in threads, for each reward at most its ``concurrency`` at a time. Thread-safe."""

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane[T]] = {}
        self._lock = threading.Lock()

    def submit(self, reward: object, call: Callable[[], T]) -> Future[T]:
        """Start a call as soon as a thread is free, and return what becomes of it."""
        future: Future[T] = Future()
        with self._lock:
            most = int(getattr(reward, "concurrency", CONCURRENCY))
            lane = self._lanes.setdefault(id(reward), _Lane(reward, most))
            lane.work.put((future, call))
            if lane.threads < lane.most:
                lane.threads += 1
                threading.Thread(target=_serve, args=(lane.work,), daemon=True, name="reward-service").start()
        return future

    def close(self) -> None:
        """Cancel what has not begun; calls under way end by themselves, and nothing waits for them."""
        with self._lock:
            for lane in self._lanes.values():
                _cancel(lane.work)
                for _ in range(lane.threads):
                    lane.work.put(None)
            self._lanes.clear()


def _serve(work: SimpleQueue[_Work[T] | None]) -> None:
    while (item := work.get()) is not None:
        future, call = item
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(call())
        except BaseException as error:  # raised again where the result is asked for
            future.set_exception(error)


def _cancel(work: SimpleQueue[_Work[T] | None]) -> None:
    while True:
        try:
            item = work.get_nowait()
        except Empty:
            return
        if item is not None:
            item[0].cancel()
