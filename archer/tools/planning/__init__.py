"""``archer train RECIPE --dry-run``: what a run needs and does, and how to start it, from the model's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archer.recipe.sections import Recipe

PAPER = (2, 8)  # machines, GPUs per machine: every experiment of the paper (arXiv 2507.15778v2, 5.1)


def say_plan(
    recipe: Recipe,
    algorithm: str,
    machines: tuple[int | None, int | None, float],
    typed: tuple[str, tuple[str, ...], int, Path | None],
) -> None:
    """Print the plan of a recipe's algorithm (empty: its first).

    ``machines``: their number, GPUs per machine and GiB per GPU. Without numbers, recipes with DeepSpeed are planned
    for the paper's machines, others for one GPU. ``typed`` holds the recipe, changes, seed and run folder of the
    command line. Raises UserError.
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
