"""``archer train``: one algorithm, one seed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from archer.commands.options import Changes, RunFolder, Threads, Unisolated, chosen_recipe
from archer.errors import UserError
from archer.system import gpu_count, under_torchrun


def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name or a .yaml file.")],
    algorithm: Annotated[str, typer.Option(help="One of the recipe's algorithms.")] = "",
    seed: int = 0,
    out: RunFolder = None,
    threads: Threads = 0,
    ranks: Annotated[int, typer.Option(help="Processes on this machine (0: one a GPU, with DeepSpeed).")] = 0,
    allow_unisolated: Unisolated = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan: memory, work, commands.")] = False,
    nodes: Annotated[int | None, typer.Option(min=1, help="With --dry-run: machines.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="With --dry-run: GPUs of a machine.")] = None,
    gpu_memory: Annotated[float, typer.Option(min=0.1, help="With --dry-run: GiB of a GPU.")] = 80.0,
    profile: Annotated[int, typer.Option(min=0, help="Time so many steps after the first, trace one more.")] = 0,
    changes: Changes = None,
) -> None:
    """Train one algorithm with one seed, then evaluate it."""
    chosen = chosen_recipe(recipe, changes)
    if dry_run:
        from archer.tools.planning import say_plan

        say_plan(chosen, algorithm, (nodes, gpus, gpu_memory), (recipe, tuple(changes or ()), seed, out))
        return
    if nodes or gpus:
        raise UserError("--nodes and --gpus belong to --dry-run; --ranks or torchrun starts a run of several")
    from archer.distributed import launch
    from archer.train import train as run_training

    side = ranks or (gpu_count() if chosen.update.deepspeed is not None else 1)
    if side > 1 and not under_torchrun():
        sys.exit(launch(side, sys.argv[1:]))
    run_training(chosen, algorithm, seed, out, threads=threads, allow_unisolated=allow_unisolated, profile=profile)
