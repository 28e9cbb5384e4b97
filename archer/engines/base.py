"""What an engine promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from archer.types import Ask, Rollout, Sampling

Finished = Callable[[Rollout], None]  # told of each rollout as it is finished, in any order


def ignore(rollout: Rollout) -> None:
    """The :data:`Finished` that does nothing."""


class Engine(Protocol):
    """Samples responses. Every (problem, sample index, seed) draws from its own random stream."""

    def generate(self, asks: Sequence[Ask], sampling: Sampling, finished: Finished = ignore) -> list[Rollout]:
        """Return one rollout for every sample of every ask, in the order asked; tell ``finished`` of each.

        Raises :class:`~archer.errors.EngineError` when the engine fails and
        :class:`~archer.errors.DataError` when a prompt and ``max_tokens`` exceed the model's context.
        """
        ...

    def load(self, version: int) -> None:
        """Take over the policy's weights as they are after ``version`` training steps."""
        ...
