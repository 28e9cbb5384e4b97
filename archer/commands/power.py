"""``archer power``: how many problems and samples it takes to see a difference between two models."""

from __future__ import annotations

from typing import Annotated

import typer

from archer.commands.options import Benchmarks, Changes, RecipeName, chosen_recipe, split, with_benchmarks
from archer.terminal import say


def power(
    effect: Annotated[float, typer.Argument(metavar="EFFECT", help="The difference in accuracy: 0.02 is 2 points.")],
    benchmarks: Benchmarks = "",
    recipe: RecipeName = "lab",
    changes: Changes = None,
) -> None:
    """Say how many problems and samples it takes to see a difference this large between two models."""
    chosen = with_benchmarks(chosen_recipe(recipe, changes), split(benchmarks))
    from archer.leaderboards.power import report

    say(report(effect, chosen.evaluate.benchmarks))
