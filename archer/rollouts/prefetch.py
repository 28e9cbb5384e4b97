"""Where a step's rollouts come from: sampled when asked for, or one step ahead while the last one updates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from archer.engines.base import Weights
from archer.rollouts.collect import RolloutBatch, StepClock, StepSampler
from archer.rollouts.dynamic_sampling import GradedGroup, StreamCursor
from archer.types import Json


class RolloutSource:
    """The rollouts of step after step. Every rank makes the same calls.

    With ``prefetch`` step n + 1 is sampled in a thread while step n updates: with weights one step old, and neither
    waits for the other. What was sampled ahead is part of a checkpoint: its weights are gone when the run goes on.
    """

    def __init__(self, sampler: StepSampler, prefetch: bool) -> None:
        self.sampler, self.prefetch = sampler, prefetch
        self.ready: list[GradedGroup] | None = None
        self._under_way: SamplingThread | None = None

    def next(self, cursor: StreamCursor, clock: StepClock, more: bool) -> RolloutBatch:
        """Return the step's rollouts from ``cursor`` on; where ``more`` steps follow, begin to prefetch the next.

        Raises EngineError, SandboxError, GraderError, and UserError where dynamic sampling does not fill the batch.
        """
        groups = self.sampler.gather(self.sampler.sample(cursor, clock), clock) if self.ready is None else self.ready
        self.ready = None
        batch = self.sampler.merge(cursor, groups)
        if self.prefetch and more:
            apart = StepClock()  # its seconds are not this step's
            self._under_way = SamplingThread(lambda: self.sampler.sample(batch.cursor, apart))
        return batch

    def load_weights(self, version: int, weights: Weights, clock: StepClock) -> None:
        """Give the engine the weights of training step ``version``, once the prefetch is done with the old ones.

        Raises what the prefetch raised.
        """
        if self._under_way is not None:
            with clock("wait"):
                groups = self._under_way.result()
            self.ready, self._under_way = self.sampler.gather(groups, clock), None
        with clock("sync"):
            self.sampler.engine.load(version, weights)

    def state(self) -> Json:
        """Return the rollouts that no step has used yet, as plain values for a checkpoint."""
        return None if self.ready is None else [(group.place, group.samples) for group in self.ready]

    def restore(self, state: Json) -> None:
        """Take back what :meth:`state` returned."""
        self.ready = None if state is None else [GradedGroup(place, tuple(samples)) for place, samples in state]


class SamplingThread:
    """A thread whose result is waited for. A daemon, so that a run that fails ends at once."""

    def __init__(self, work: Callable[[], list[GradedGroup]]) -> None:
        self.groups: Sequence[GradedGroup] = ()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=[work], name="prefetch", daemon=True)
        self.thread.start()

    def result(self) -> list[GradedGroup]:
        """Return what the work gave. Raises what it raised."""
        self.thread.join()
        if self.error is not None:
            raise self.error
        return list(self.groups)

    def _run(self, work: Callable[[], list[GradedGroup]]) -> None:
        try:
            self.groups = work()
        except BaseException as error:  # raised where the result is asked for
            self.error = error
