"""The work of a run: responses, tokens and optimizer steps, from the recipe alone."""

from __future__ import annotations

from dataclasses import dataclass

from archer.recipe.sections import Recipe


@dataclass(frozen=True)
class PlannedWork:
    """The work of a run.

    ``responses`` of a step, its ``tokens`` if every response has maximal length, ``updates`` (optimizer steps) per
    step, and the ``steps`` of the run.
    """

    responses: int
    tokens: int
    updates: int
    steps: int

    @property
    def total(self) -> int:
        """Optimizer steps of the whole run; filtered groups make it fewer."""
        return self.updates * self.steps


def work_of(recipe: Recipe) -> PlannedWork:
    """Return the work of a recipe."""
    rollout, update = recipe.rollout, recipe.update
    responses = rollout.prompts * rollout.samples_per_prompt
    updates = update.epochs * -(-rollout.prompts // update.mini_batch)
    return PlannedWork(responses, responses * rollout.max_tokens, updates, recipe.steps)
