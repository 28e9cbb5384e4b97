"""What draws for the vLLM engine: a process of ours, or servers. And the rows it takes, as room comes free."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from archer.engines.base import MoreRequests, Weights, no_more, sample_seed
from archer.engines.decode_buffer import SampleRow
from archer.types import Json, Request, Sampling


@dataclass(frozen=True)
class VllmSampling:
    """How rows are drawn: ``stops`` end a response, ``logps`` says whether log-probs are wanted."""

    sampling: Sampling
    stops: tuple[int, ...]
    logps: bool

    def parameters(self, seed: int) -> dict[str, Json]:
        """Return vLLM's sampling parameters of one row; all that a model's own defaults could change is stated."""
        chosen = self.sampling
        return {
            "temperature": chosen.temperature, "top_p": chosen.top_p, "top_k": chosen.top_k, "min_p": 0.0,
            "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
            "max_tokens": chosen.max_tokens, "seed": seed, "stop_token_ids": list(self.stops),
            "logprobs": 0 if self.logps else None, "detokenize": False,
        }  # fmt: skip


@dataclass(frozen=True)
class VllmOutput:
    """One response as vLLM gave it: the row's place, the tokens with their end token, log-probs where wanted."""

    place: int
    tokens: tuple[int, ...]
    logps: tuple[float, ...]


class RequestQueue:
    """The rows of one call, in the order asked; further ones come from ``more`` while room is free."""

    def __init__(
        self, requests: Sequence[Request], rows: Callable[[Sequence[Request], int], list[SampleRow]], more: MoreRequests
    ) -> None:
        self._rows, self._more = rows, more
        self.waiting = deque(rows(requests, 0))
        self.rows: list[SampleRow] = list(self.waiting)
        self.done = 0

    @property
    def curious(self) -> bool:
        """Whether more rows may come when none waits."""
        return self._more is not no_more and not self.waiting

    def take(self, free: int, idle: bool) -> list[SampleRow]:
        """Return rows for ``free`` places; ``idle`` says that nothing is under way: nothing returned is the end."""
        if not self.waiting and free > 0:
            new = self._rows(self._more(idle), len(self.rows))
            self.rows += new
            self.waiting.extend(new)
        return [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]

    def progress(self) -> str:
        """Return how far it is, for errors."""
        return f"{self.done} of {len(self.rows)} rollouts done"


def say(text: str) -> None:
    """Tell the user, once, what was chosen."""
    print(f"archer: {text}", file=sys.stderr, flush=True)


def seed_of(row: SampleRow) -> int:
    """Return the seed that vLLM draws a row with."""
    return sample_seed(row.seed, row.problem.id, row.sample)


class VllmBackend(Protocol):
    """Draws rows with weights that move. Every call ends, or raises EngineError, within the recipe's deadline."""

    def draw(self, queue: RequestQueue, wish: VllmSampling, drawn: Callable[[VllmOutput], None]) -> None:
        """Draw every row of ``queue``, telling ``drawn`` of each as it ends."""
        ...

    def load(self, version: int, weights: Weights) -> None:
        """Take over weights."""
        ...

    def rest(self) -> None:
        """Give memory back until the next call, where that is possible."""
        ...

    def describe(self) -> Mapping[str, Json]:
        """Return what it is, for logs."""
        ...

    def close(self) -> None:
        """End it."""
        ...
