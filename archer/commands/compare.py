"""``archer compare``: algorithms from one base model, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archer.commands.options import Changes, RunFolder, Threads, Unisolated, chosen_recipe, split
from archer.commands.tables import show_summary
from archer.errors import UserError
from archer.terminal import say


def compare(
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name or a .yaml file.")] = "",
    algorithms: Annotated[str, typer.Option(help="Comma-separated; default: the recipe's.")] = "",
    seeds: Annotated[int | None, typer.Option(min=1, help="Training runs of each algorithm.")] = None,
    out: RunFolder = None,
    quick: Annotated[bool, typer.Option(help="A first table in minutes: a short recipe, one seed.")] = False,
    parallel: Annotated[int, typer.Option(help="Runs side by side (0: one a core).")] = 0,
    threads: Threads = 0,
    allow_unisolated: Unisolated = False,
    changes: Changes = None,
) -> None:
    """Train algorithms from one base model, evaluate all, print what compares them."""
    import archer.compare as comparing

    if recipe and quick:
        raise UserError(f"--quick is a recipe of its own: leave it out, or leave out --recipe {recipe}")
    chosen = chosen_recipe(recipe or ("lab-quick" if quick else "lab"), changes)
    if not recipe and not allow_unisolated:
        chosen, note = comparing.without_programs(chosen)
        say(note, err=True, nl=bool(note))
    names = tuple(dict.fromkeys(split(algorithms) or chosen.algorithms))
    count = seeds or (1 if quick else 2)
    folder = out or Path("runs") / chosen.name
    standings = comparing.compare(
        chosen, names, count, folder, parallel=parallel, threads=threads, allow_unisolated=allow_unisolated
    )
    show_summary(folder, standings)
