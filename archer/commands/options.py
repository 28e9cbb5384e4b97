"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from archer.recipe.sections import Recipe

Changes = Annotated[list[str] | None, typer.Option("--set", help="Change one recipe value: update.lr=1e-4.")]
Unisolated = Annotated[bool, typer.Option(help="Run programs WITHOUT isolation, where there is no sandbox.")]
Include = Annotated[Path | None, typer.Option(help="With --lm-eval: a folder of more tasks.")]
Chat = Annotated[
    bool | None, typer.Option(help="With --lm-eval: ask through the chat template; default: as tasks say.")
]
Shots = Annotated[int | None, typer.Option(min=0, help="With --lm-eval: examples in a prompt, in place of the tasks'.")]
Truncate = Annotated[bool, typer.Option(help="With --lm-eval: prompts too long lose their beginning.")]
Threads = Annotated[int, typer.Option(help="CPU threads of each run (0: chosen for the machine).")]


def split(names: str) -> tuple[str, ...]:
    """Read a comma-separated option."""
    return tuple(part.strip() for part in names.split(",") if part.strip())


def chosen_recipe(name: str, changes: Sequence[str] | None) -> Recipe:
    """Read a recipe with its changes; a suite among its benchmarks stands for its members."""
    from archer.evaluation.benchmark import expand
    from archer.recipe.reading import read_recipe

    recipe = read_recipe(name, changes or [])
    return replace(recipe, evaluate=replace(recipe.evaluate, benchmarks=expand(recipe.evaluate.benchmarks)))
