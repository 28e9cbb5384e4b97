"""``archer eval``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from archer.commands.options import Changes, Threads, Unisolated


def evaluate(
    model: Annotated[str, typer.Argument(help="A Hugging Face folder or hub name, or `lab`.")],
    benchmarks: Annotated[str, typer.Option(help="Comma-separated; default: the recipe's.")] = "",
    recipe: Annotated[str, typer.Option(help="Where engine, rewards and benchmarks are set.")] = "lab",
    label: Annotated[str, typer.Option(help="The row's name in tables.")] = "model",
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for results/; an unfinished one goes on.")] = None,
    threads: Threads = 0,
    allow_unisolated: Unisolated = False,
    changes: Changes = None,
) -> None:
    """Evaluate a model as it is."""
    from archer.examine import Exams, examine
    from archer.recipe import read_recipe
    from archer.statistics import avg_at_k, mean_interval, pass_at_k

    chosen = read_recipe(recipe, changes or [])
    names = tuple(part.strip() for part in benchmarks.split(",")) if benchmarks else chosen.evaluate.benchmarks
    chosen = replace(
        chosen, model=replace(chosen.model, path=model), evaluate=replace(chosen.evaluate, benchmarks=names)
    )
    folder = out or Path("runs") / "eval" / f"{Path(model).name}-{label}-{seed}"
    for result in examine(Exams(chosen, label, seed, folder, threads, allow_unisolated)):
        avg = mean_interval(avg_at_k(result.outcomes)[None])
        passed = pass_at_k(result.outcomes, result.samples).mean()
        typer.echo(
            f"{result.benchmark}: avg@{result.samples} {avg.value:.3f} [{avg.low:.3f}, {avg.high:.3f}], "
            f"pass@{result.samples} {passed:.3f}, {len(result.problems)} problems"
        )
    typer.echo(f"outcomes of every sample: {folder / 'results'}")
