"""The source of each step's rollouts: sampled when needed, or prefetched during the previous step's update."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from archer.engines.base import Weights
from archer.rollouts.collect import RolloutBatch, StepClock, StepSampler
from archer.rollouts.dynamic_sampling import GradedGroup, StreamCursor


class RolloutSource:
    """Supplies the rollouts of each step. Every rank makes the same calls.

    With ``prefetch``, a thread samples step n + 1 while step n updates, with weights one step old. Prefetched rollouts
    are part of a checkpoint, because a resumed run no longer has the weights that sampled them.
    """

    def __init__(self, sampler: StepSampler, prefetch: bool) -> None:
        self.sampler, self.prefetch = sampler, prefetch
        self.ready: list[GradedGroup] | None = None
        self._under_way: SamplingThread | None = None

    def next(self, cursor: StreamCursor, clock: StepClock, more: bool) -> RolloutBatch:
        """Return the step's rollouts from ``cursor`` on; if ``more`` steps follow, start to prefetch the next.

        Raises EngineError, SandboxError, GraderError, and UserError if dynamic sampling does not fill the batch.
        """
        ready, self.ready = self.ready, None
        batch = self.sampler.collect(cursor, clock) if ready is None else self.sampler.merge(cursor, ready)
        if self.prefetch and more:
            apart = StepClock()  # its seconds are not this step's
            self._under_way = SamplingThread(lambda: self.sampler.sample(batch.cursor, apart))
        return batch

    def load_weights(self, version: int, weights: Weights, clock: StepClock) -> None:
        """Wait for the prefetch, then load the weights after ``version`` training steps into the engine.

        Raises the prefetch's errors.
        """
        if self._under_way is not None:
            with clock("wait"):
                groups = self._under_way.result()
            self.ready, self._under_way = self.sampler.gather(groups, clock), None
        with clock("sync"):
            self.sampler.engine.load(version, weights)

    def state(self) -> list[dict[str, Any]] | None:
        """Return the prefetched rollouts as plain values and arrays for a checkpoint; None if there are none."""
        return None if self.ready is None else [group.state() for group in self.ready]

    def restore(self, state: Any) -> None:
        """Restore the rollouts that :meth:`state` returned."""
        self.ready = None if state is None else [GradedGroup.restored(group) for group in state]


class SamplingThread:
    """A thread with a result; a daemon, so that a failing run ends at once."""

    def __init__(self, work: Callable[[], list[GradedGroup]]) -> None:
        self.groups: Sequence[GradedGroup] = ()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=[work], name="prefetch", daemon=True)
        self.thread.start()

    def result(self) -> list[GradedGroup]:
        """Wait for the work and return its groups. Raises its error."""
        self.thread.join()
        if self.error is not None:
            raise self.error
        return list(self.groups)

    def _run(self, work: Callable[[], list[GradedGroup]]) -> None:
        try:
            self.groups = work()
        except BaseException as error:  # raised by :meth:`result`
            self.error = error
