"""Where a step's groups come from: sampled when they are wanted, or one step ahead while the last one updates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from archer.rollouts.collect import RolloutBatch, StepClock, StepSampler
from archer.rollouts.dynamic_sampling import GradedGroup, StreamCursor
from archer.types import Json


class Supply(Protocol):
    """What the loop asks for groups. Every rank makes the same calls."""

    def take(self, queue: StreamCursor, clock: StepClock) -> RolloutBatch:
        """Return the groups of the step that starts at ``queue``."""
        ...

    def start(self, queue: StreamCursor) -> None:
        """Hear from where the next step will go on, before this one's update."""
        ...

    def finish(self, clock: StepClock) -> None:
        """Hear that the update is done; after this the engine may take over new weights."""
        ...

    def state(self) -> Json:
        """Return what a checkpoint needs of samples that no step has used yet."""
        ...

    def restore(self, state: Json) -> None:
        """Take back what :meth:`state` returned."""
        ...


@dataclass(frozen=True)
class Synchronous:
    """Samples when asked, with the weights as they are then."""

    sampler: StepSampler

    def take(self, queue: StreamCursor, clock: StepClock) -> RolloutBatch:
        """Sample and return the step's groups."""
        return self.sampler.collect(queue, clock)

    def start(self, queue: StreamCursor) -> None: ...
    def finish(self, clock: StepClock) -> None: ...

    def state(self) -> Json:
        """Return that there is nothing."""
        return None

    def restore(self, state: Json) -> None: ...


@dataclass
class Ahead:
    """Samples step n + 1 in a thread while step n updates: weights one step old, and nobody waits for anybody.

    What was sampled ahead is part of a checkpoint: its weights are gone when the run goes on.
    """

    sampler: StepSampler
    ready: list[GradedGroup] | None = None
    _under_way: Background | None = field(default=None, repr=False)

    def take(self, queue: StreamCursor, clock: StepClock) -> RolloutBatch:
        """Return what is ready; at the first step sample it now."""
        cuts = self.sampler.gather(self.sampler.sample(queue, clock), clock) if self.ready is None else self.ready
        self.ready = None
        return self.sampler.merge(queue, cuts)

    def start(self, queue: StreamCursor) -> None:
        """Begin to sample the next step."""
        apart = StepClock()  # its seconds are not the step's
        self._under_way = Background(lambda: self.sampler.sample(queue, apart))

    def finish(self, clock: StepClock) -> None:
        """Wait for what :meth:`start` began. Raises what sampling raised."""
        if self._under_way is not None:
            with clock("wait"):
                cuts = self._under_way.result()
            self.ready, self._under_way = self.sampler.gather(cuts, clock), None

    def state(self) -> Json:
        """Return the groups that are ready, as plain values."""
        return None if self.ready is None else [(cut.place, cut.samples) for cut in self.ready]

    def restore(self, state: Json) -> None:
        """Take them back."""
        self.ready = None if state is None else [GradedGroup(place, tuple(samples)) for place, samples in state]


class Background:
    """A thread whose result is waited for. It never keeps the process: a run that fails ends at once."""

    def __init__(self, work: Callable[[], list[GradedGroup]]) -> None:
        self.cuts: Sequence[GradedGroup] = ()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=[work], name="sampling ahead", daemon=True)
        self.thread.start()

    def result(self) -> list[GradedGroup]:
        """Return what the work gave. Raises what it raised."""
        self.thread.join()
        if self.error is not None:
            raise self.error
        return list(self.cuts)

    def _run(self, work: Callable[[], list[GradedGroup]]) -> None:
        try:
            self.cuts = work()
        except BaseException as error:  # it is raised where the result is asked for
            self.error = error
