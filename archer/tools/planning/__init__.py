"""``archer train RECIPE --dry-run``: what a run holds and does, and how it starts, from the model's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archer.recipe.sections import Recipe

PAPER = (2, 8)  # machines and GPUs of each, of the paper's every experiment (arXiv 2507.15778v2, 5.1)


def say_plan(
    recipe: Recipe,
    algorithm: str,
    machines: tuple[int | None, int | None, float],
    typed: tuple[str, tuple[str, ...], int, Path | None],
) -> None:
    """Print the plan of a recipe's algorithm (none: its first) on machines, GPUs of each and GiB of a GPU.

    Without numbers, recipes for several ranks are planned for the paper's machines, others for one GPU. ``typed`` is
    what the command line said: recipe, changes, seed and run folder. Raises UserError.
    """
    from archer.tools.planning.launch import PlanRequest
    from archer.tools.planning.memory import Cluster
    from archer.tools.planning.page import show
    from archer.tools.planning.plan import make_plan

    usual = PAPER if recipe.update.deepspeed is not None else (1, 1)
    nodes, gpus, memory = machines
    cluster = Cluster(nodes or usual[0], gpus or usual[1], memory)
    name, changes, seed, out = typed
    plan = make_plan(recipe, algorithm or next(iter(recipe.algorithms)), cluster)
    show(plan, PlanRequest(name, changes, seed, str(out) if out else ""))
