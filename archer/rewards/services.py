"""Threads in which rewards of the kind ``service`` wait for their servers.

They are daemons, unlike those of ``concurrent.futures``: a process that ends does not wait for a server that hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

from archer.errors import GraderError

CONCURRENCY = 16  # calls at a time of a reward that says nothing of it
T = TypeVar("T")
_Work = tuple["Future[T]", Callable[[], T]]


@dataclass
class _Lane(Generic[T]):
    """The threads of one reward; ``work`` is what they have not begun, None the end, ``open`` all that is not done."""

    reward: object
    most: int
    work: SimpleQueue[_Work[T] | None] = field(default_factory=SimpleQueue)
    threads: int = 0
    open: set[Future[T]] = field(default_factory=set)


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
            lane.open.add(future)
            future.add_done_callback(lane.open.discard)
            lane.work.put((future, call))
            if lane.threads < lane.most:
                lane.threads += 1
                threading.Thread(target=_serve, args=(lane.work,), daemon=True, name="reward-service").start()
        return future

    def close(self) -> None:
        """Cancel what has not begun. Calls under way end by themselves; who waits for one gets a GraderError."""
        with self._lock:
            lanes, self._lanes = list(self._lanes.values()), {}
        for lane in lanes:
            for future in list(lane.open):
                if not future.cancel():
                    with suppress(InvalidStateError):  # it ended just now
                        future.set_exception(GraderError("the grader was closed while a service was asked"))
            for _ in range(lane.threads):
                lane.work.put(None)


def _serve(work: SimpleQueue[_Work[T] | None]) -> None:
    while (item := work.get()) is not None:
        future, call = item
        if not future.set_running_or_notify_cancel():
            continue
        with suppress(InvalidStateError):  # closed meanwhile
            try:
                future.set_result(call())
            except InvalidStateError:
                raise
            except BaseException as error:  # raised again where the result is asked for
                future.set_exception(error)
