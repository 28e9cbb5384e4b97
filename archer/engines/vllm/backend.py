"""The interface of what runs vLLM, a child process or servers, and the queue of rows that it works through."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from archer.engines.base import MoreRequests, Weights, no_more, sample_seed
from archer.engines.decode_buffer import SampleRow
from archer.terminal import visible
from archer.types import Json, Request, Sampling


@dataclass(frozen=True)
class VllmSampling:
    """How to sample rows: ``stops`` are the token ids that end a response, ``logps`` asks for log-probs."""

    sampling: Sampling
    stops: tuple[int, ...]
    logps: bool

    def parameters(self, seed: int) -> dict[str, Json]:
        """Return vLLM's sampling parameters of one row, explicit wherever a model's own defaults would apply."""
        chosen = self.sampling
        return {
            "temperature": chosen.temperature, "top_p": chosen.top_p, "top_k": chosen.top_k, "min_p": 0.0,
            "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
            "max_tokens": chosen.max_tokens, "seed": seed, "stop_token_ids": list(self.stops),
            "logprobs": 0 if self.logps else None, "detokenize": False,
        }  # fmt: skip


@dataclass(frozen=True)
class VllmOutput:
    """One response by vLLM: the row's index, the tokens with their end token, and log-probs if asked for."""

    place: int
    tokens: tuple[int, ...]
    logps: tuple[float, ...]


class RequestQueue:
    """The rows of one call, in request order; ``more`` supplies further ones while slots are free."""

    def __init__(
        self, requests: Sequence[Request], rows: Callable[[Sequence[Request], int], list[SampleRow]], more: MoreRequests
    ) -> None:
        self._rows, self._more = rows, more
        self.waiting = deque(rows(requests, 0))
        self.rows: list[SampleRow] = list(self.waiting)
        self.done = 0

    @property
    def curious(self) -> bool:
        """Whether no row waits, but ``more`` may supply some."""
        return self._more is not no_more and not self.waiting

    def take(self, free: int, idle: bool) -> list[SampleRow]:
        """Return rows for at most ``free`` slots; ``idle``: nothing runs, so an empty list is the end."""
        if not self.waiting and free > 0:
            new = self._rows(self._more(idle), len(self.rows))
            self.rows += new
            self.waiting.extend(new)
        return [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]

    def progress(self) -> str:
        """Return the progress, for error messages."""
        return f"{self.done} of {len(self.rows)} rollouts done"


def say(text: str) -> None:
    """Print a line for the user to stderr."""
    print(visible(f"archer: {text}"), file=sys.stderr, flush=True)


def seed_of(row: SampleRow) -> int:
    """Return the seed that vLLM samples a row with."""
    return sample_seed(row.seed, row.problem.id, row.sample)


class VllmBackend(Protocol):
    """Samples rows with weights that change. Every call ends or raises EngineError within the recipe's deadline."""

    def draw(self, queue: RequestQueue, sampling: VllmSampling, on_output: Callable[[VllmOutput], None]) -> None:
        """Sample every row of ``queue`` and call ``on_output`` with each as it ends."""
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
