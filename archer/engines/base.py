"""What an engine promises, and the random streams of samples.

Every (seed, problem, sample index) has a stream of its own, so what is drawn for it depends on no other sample:
a killed evaluation draws what is missing, and only that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from archer.types import Json, Problem, Request, Rollout, Sampling, Stop

if TYPE_CHECKING:
    from torch import Tensor

SEED_BITS = 53  # whole numbers up to here survive every JSON reader, and fit the 64 bits that servers take


@dataclass(frozen=True)
class Completion:
    """One response as an evaluation keeps it: no token ids, no log-probs.

    ``seed`` is :func:`sample_seed`'s; ``tokens`` counts the response's, its end token included.
    """

    problem: Problem
    sample: int
    seed: int
    text: str
    tokens: int
    stop: Stop


OnRollout = Callable[[Rollout], None]  # told of each rollout as it is finished, in any order
MoreRequests = Callable[[bool], Sequence[Request]]  # asked for further asks while rows are free; see `Engine.generate`
Weights = Callable[[], Iterator[tuple[str, "Tensor"]]]  # every weight of the policy by its Hugging Face name
OnCompletion = Callable[[Completion], None]  # the same of answers


def ignore(rollout: Rollout) -> None:
    """The :data:`OnRollout` that does nothing."""


def no_more(idle: bool) -> Sequence[Request]:
    """The :data:`MoreRequests` that has none."""
    return ()


class Generator(Protocol):
    """What can be evaluated: answers problems, each sample drawn with its own seed."""

    def complete(self, asks: Sequence[Request], sampling: Sampling, answered: OnCompletion) -> None:
        """Draw every sample of every ask, telling ``answered`` of each as it is finished; nothing is kept here.

        Raises :class:`~archer.errors.EngineError` when the engine fails, and
        :class:`~archer.errors.DataError` when a prompt and ``max_tokens`` exceed the model's context.
        """
        ...

    def prompt(self, problem: Problem) -> Json:
        """Return all that the model is given for a problem: token ids, or messages with the template's switches."""
        ...

    def describe(self) -> Mapping[str, Json]:
        """Return the engine's ``name``, and what else tells its draws from another's of the same model."""
        ...


class Engine(Generator, Protocol):
    """What can be trained with too: samples responses with their log-probs, of weights that move."""

    def generate(
        self, asks: Sequence[Request], sampling: Sampling, finished: OnRollout = ignore, more: MoreRequests = no_more
    ) -> list[Rollout]:
        """Return one rollout for every sample of every ask, in the order asked; tell ``finished`` of each.

        While rows are free and none waits, ``more(False)`` is asked for further asks, so that they start before the
        slowest row ends; ``more(True)`` when nothing is under way: only then an empty answer is the last word.
        Raises what :meth:`Generator.complete` raises.
        """
        ...

    def load(self, version: int, weights: Weights) -> None:
        """Take over the policy's weights as they are after ``version`` training steps.

        ``weights`` is a collective call: every rank iterates over all of it, or none does. Raises EngineError.
        """
        ...

    def close(self) -> None:
        """End what the engine started."""
        ...


def stream_key(seed: int, problem: str, sample: int) -> int:
    """Return the 128-bit name of a sample's random stream."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{sample}/{problem}".encode(), digest_size=16).digest(), "little")


def sample_seed(seed: int, problem: str, sample: int) -> int:
    """Return the seed of one sample, the low 53 bits of its stream's name: what servers are sent and stores record."""
    return stream_key(seed, problem, sample) & ((1 << SEED_BITS) - 1)
