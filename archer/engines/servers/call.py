"""The interface of what samples for an engine, a child process or servers, and one call of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from archer.engines.base import Weights, seed_of
from archer.engines.queue import RequestQueue
from archer.engines.requests import TokenCoder
from archer.terminal import visible
from archer.types import Json, Request, Rollout, Sampling


@dataclass(frozen=True)
class EngineOutput:
    """One response: the request's number, the tokens with their end token, and log-probs if asked for."""

    place: int
    tokens: tuple[int, ...]
    logps: tuple[float, ...]


class EngineCall:
    """The requests of one call, numbered as they are taken from the queue; ``sampling`` is how to sample them."""

    def __init__(self, queue: RequestQueue, coder: TokenCoder, sampling: Sampling) -> None:
        self.queue, self.coder, self.sampling = queue, coder, sampling
        self.running: dict[int, Request] = {}
        self.taken = self.done = 0

    @property
    def curious(self) -> bool:
        """Whether no request waits, but further ones may come."""
        return self.queue.growing and not self.queue.waiting

    def take(self, free: int, idle: bool) -> list[int]:
        """Return the numbers of further requests, at most ``free``; ``idle``: nothing runs, so [] is the end."""
        numbers = []
        for request in self.queue.take(free, idle):
            self.running[self.taken] = request
            numbers.append(self.taken)
            self.taken += 1
        return numbers

    def prompt(self, number: int) -> tuple[int, ...]:
        """Return the token ids of a running request's prompt."""
        return self.coder.prompt(self.running[number])

    def seed(self, number: int) -> int:
        """Return the seed that a running request is sampled with."""
        return seed_of(self.running[number])

    def finish(self, output: EngineOutput) -> Rollout:
        """Return the rollout of a request that ended."""
        self.done += 1
        tokens, logps = np.array(output.tokens, np.int32), np.array(output.logps, np.float32)
        return self.coder.rollout(self.running.pop(output.place), tokens, logps, np.empty(0, np.float32))

    def progress(self) -> str:
        """Return the progress, for error messages."""
        return f"{self.done} of {self.taken + len(self.queue.waiting)} rollouts done"


def say(text: str) -> None:
    """Print a line for the user to stderr."""
    print(visible(f"archer: {text}"), file=sys.stderr, flush=True)


class EngineBackend(Protocol):
    """Samples rows with weights that change. Every call ends or raises EngineError within the recipe's deadline."""

    def draw(self, call: EngineCall) -> Iterator[Rollout]:
        """Sample every request of the call's queue; yield each rollout as it ends. Closing it ends the call."""
        ...

    def load(self, version: int, weights: Weights) -> None:
        """Load the weights of training step ``version``."""
        ...

    def rest(self) -> None:
        """Free memory until the next call, if the backend can."""
        ...

    def describe(self) -> Mapping[str, Json]:
        """Return the backend's properties, for logs."""
        ...

    def close(self) -> None:
        """Stop what was started."""
        ...
