"""The interface of an engine, and the random streams of samples.

Every (seed, problem, sample index) has its own random stream, so a sample depends on no other sample, and a killed
evaluation samples only what is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from archer.types import Json, Problem, Request, Rollout, Sampling, Stop

if TYPE_CHECKING:
    from torch import Tensor

SEED_BITS = 53  # integers of this size survive every JSON reader and fit the 64 bits that servers accept


@dataclass(frozen=True)
class Completion:
    """A response without token ids and log-probs, as an evaluation keeps it.

    ``seed`` comes from :func:`sample_seed`; ``tokens`` is the length in tokens, the end token included.
    """

    problem: Problem
    sample: int
    seed: int
    text: str
    tokens: int
    stop: Stop


OnRollout = Callable[[Rollout], None]  # called with each rollout as it finishes, in any order
MoreRequests = Callable[[bool], Sequence[Request]]  # returns further requests; see `Engine.generate`
Weights = Callable[[], Iterator[tuple[str, "Tensor"]]]  # yields every weight of the policy with its Hugging Face name
OnCompletion = Callable[[Completion], None]  # called with each completion as it finishes, in any order


def ignore(rollout: Rollout) -> None:
    """Do nothing: the default :data:`OnRollout`."""


def no_more(idle: bool) -> Sequence[Request]:
    """Return no request: the default :data:`MoreRequests`."""
    return ()


class Generator(Protocol):
    """What an evaluation needs of an engine: completions of problems, each sampled with its own seed."""

    def complete(self, requests: Sequence[Request], sampling: Sampling, on_completion: OnCompletion) -> None:
        """Sample every response of every request, and call ``on_completion`` with each as it finishes.

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

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_rollout: OnRollout = ignore,
        more: MoreRequests = no_more,
    ) -> list[Rollout]:
        """Return a rollout for every sample of every request, in request order; call ``on_rollout`` with each.

        While rows are free and none waits, the engine calls ``more(False)`` for further requests, which start before
        the slowest row ends. When nothing runs it calls ``more(True)``, and stops if that returns nothing.
        Raises the errors of :meth:`Generator.complete`.
        """
        ...

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
