"""Requests of several samples, an engine's rollouts in their order, and what two rollouts are compared by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np

from archer.engines.base import Generator, in_order
from archer.engines.queue import FixedQueue, requests_for
from archer.types import Problem, Request, Rollout, Sampling


def ask(problems: Iterable[Problem], samples: Iterable[int], seed: int = 5) -> list[Request]:
    numbers = tuple(samples)
    return [request for problem in problems for request in requests_for(problem, numbers, seed)]


def drawn_in_order(
    engine: Generator, requests: list[Request], sampling: Sampling, *, logps: bool = True
) -> list[Rollout]:
    return in_order(requests, engine.generate(FixedQueue(requests, logps), sampling))


def plain(rollouts: Iterable[Rollout]) -> list[dict[str, Any]]:
    """Every field of every rollout, arrays as lists."""
    return [
        {one.name: listed(getattr(rollout, one.name)) for one in fields(Rollout) if one.name != "problem"}
        | {"problem": rollout.problem.id}
        for rollout in rollouts
    ]


def listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


class Growing(FixedQueue):
    """A queue that hands out ``later[n]`` at the n-th question for more, and remembers whether the engine was idle."""

    growing = True

    def __init__(self, requests: list[Request], later: dict[int, list[Request]]) -> None:
        super().__init__(requests)
        self.later, self.idle = later, list[bool]()

    def take(self, free: int, idle: bool) -> list[Request]:
        if not self.waiting and free > 0:
            self.idle.append(idle)
            self.waiting.extend(self.later.get(len(self.idle), []))
        return super().take(free, idle)
