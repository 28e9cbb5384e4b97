"""``archer train``: one algorithm, one seed, from the base model to a graded final model.

This is the table of contents of a step; ``assembly.py`` holds its parts.
"""

from __future__ import annotations

from contextlib import ExitStack

from archer.assembly import Run, open_parts
from archer.rollouts.collect import StepClock, rollout_metrics


def train(run: Run) -> None:
    """Train, checkpoint and evaluate; called again on the same folder, go on from the last checkpoint.

    Under torchrun every rank runs this; rank 0 writes. Raises UserError for what the recipe asks in vain, OurError
    for what broke here; both leave the folder ready to go on.
    """
    with ExitStack() as stack:
        parts = open_parts(run, stack)
        recipe, algorithm, journal, policy = run.recipe, parts.algorithm, parts.journal, parts.policy
        step, queue = parts.resume()
        while step < recipe.steps:
            clock, parts.ranks.where = StepClock(), f"step {step}"
            harvest = parts.take(step, queue, clock)
            queue = harvest.cursor
            if step + 1 < recipe.steps:
                parts.supply.start(queue)
            groups, mismatch = parts.prepare(step, harvest, clock)
            metrics = {**rollout_metrics(harvest, policy.version), **mismatch}
            with clock("update"):
                metrics |= policy.update(groups, algorithm)
            if not mismatch:  # else it was heeded before
                parts.heed(step, metrics)
            parts.supply.finish(clock)
            with clock("sync"):
                parts.engine.load(policy.version, policy.weights)
            step += 1
            with clock("evaluate"):
                metrics |= parts.curve(step)
            with clock("write"):
                journal.write(step - 1, metrics, *zip(*harvest.sampled, strict=True))
                if step % recipe.save.every == 0 or step == recipe.steps:
                    parts.save(step, queue)
            journal.time(step - 1, clock.seconds)
            for sink in parts.sinks:
                sink.log(step - 1, metrics)
        parts.examine(recipe.steps)
