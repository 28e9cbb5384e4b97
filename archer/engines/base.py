"""The interface of an engine, and the random streams of samples.

Every (seed, problem, sample index) has its own random stream, so a sample depends on no other sample, and a killed
evaluation samples only what is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from archer.engines.queue import RequestQueue
from archer.types import Json, Problem, Request, Rollout, Sampling

if TYPE_CHECKING:
    from torch import Tensor

SEED_BITS = 53  # integers of this size survive every JSON reader and fit the 64 bits that servers accept
Weights = Callable[[], Iterator[tuple[str, "Tensor"]]]  # yields every weight of the policy with its Hugging Face name


class Generator(Protocol):
    """What an evaluation needs of an engine: samples of problems, each with its own seed."""

    def generate(self, queue: RequestQueue, sampling: Sampling) -> Iterator[Rollout]:
        """Sample every request of ``queue``; yield each rollout as it ends, in any order.

        A rollout's problem is its request's own object, no copy. The engine goes on when it is asked for the next
        rollout, and first asks the queue for further requests where rows are free. Close the iterator to stop early
        (:func:`~archer.engines.queue.closed_after`); the engine is then free for another call, and only one may be
        under way.

        Raises :class:`~archer.errors.EngineError` when the engine fails, and :class:`~archer.errors.DataError` when
        a prompt and ``max_tokens`` together exceed the model's context.
        """
        ...

    def prompt(self, problem: Problem) -> Json:
        """Return the model's whole input for a problem: token ids, or messages and chat template switches."""
        ...

    def describe(self) -> Mapping[str, Json]:
        """Return the engine's ``name`` and every setting that changes what it samples from a model."""
        ...


class Engine(Generator, Protocol):
    """What training needs of an engine: rollouts with log-probs, sampled from weights that change."""

    def load(self, version: int, weights: Weights) -> None:
        """Load the policy's weights after ``version`` training steps.

        ``weights`` is a collective call: every rank iterates over all of it, or none does. Raises EngineError.
        """
        ...

    def close(self) -> None:
        """Stop the processes that the engine started."""
        ...


def stream_key(seed: int, problem: str, sample: int) -> int:
    """Return the 128-bit key of a sample's random stream."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{sample}/{problem}".encode(), digest_size=16).digest(), "little")


def sample_seed(seed: int, problem: str, sample: int) -> int:
    """Return a sample's seed: the low 53 bits of its stream key. Servers receive it and sample stores record it."""
    return stream_key(seed, problem, sample) & ((1 << SEED_BITS) - 1)


def seed_of(request: Request) -> int:
    """Return the seed of a request's sample."""
    return sample_seed(request.seed, request.problem.id, request.sample)


def in_order(requests: Sequence[Request], rollouts: Iterable[Rollout]) -> list[Rollout]:
    """Return the rollouts of a fixed list of requests, in its order, whatever ended first."""
    found = {(id(rollout.problem), rollout.sample, rollout.seed): rollout for rollout in rollouts}
    return [found[id(request.problem), request.sample, seed_of(request)] for request in requests]
