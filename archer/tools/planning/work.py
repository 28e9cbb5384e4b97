"""How much a run does: responses, tokens and optimizer steps, from the recipe alone."""

from __future__ import annotations

from dataclasses import dataclass

from archer.recipe.sections import Recipe


@dataclass(frozen=True)
class PlannedWork:
    """A step's ``responses``, its ``tokens`` at most (every response as long as may be), ``updates`` of the optimizer;
    the run's ``steps`` and ``total`` updates."""

    responses: int
    tokens: int
    updates: int
    steps: int

    @property
    def total(self) -> int:
        """Optimizer steps of the whole run; fewer where groups are left out."""
        return self.updates * self.steps


def work_of(recipe: Recipe) -> PlannedWork:
    """Return what the recipe asks for."""
    rollout, update = recipe.rollout, recipe.update
    responses = rollout.prompts * rollout.samples_per_prompt
    updates = update.epochs * -(-rollout.prompts // update.mini_batch)
    return PlannedWork(responses, responses * rollout.max_tokens, updates, recipe.steps)
