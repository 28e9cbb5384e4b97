"""Options that several commands share, and the recipe that they ask for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archer.errors import UserError

if TYPE_CHECKING:
    from archer.recipe.sections import Recipe

Changes = Annotated[list[str] | None, typer.Option("--set", help="Change one recipe value: update.lr=1e-4.")]
Unisolated = Annotated[bool, typer.Option(help="Run programs WITHOUT isolation, where there is no sandbox.")]
Threads = Annotated[int, typer.Option(help="CPU threads of each run (0: chosen for the machine).")]
RecipeName = Annotated[str, typer.Option("--recipe", help="Where engine, rewards and benchmarks are set.")]
Benchmarks = Annotated[str, typer.Option(help="With suites, comma-separated; default: the recipe's.")]
Copies = Annotated[list[str] | None, typer.Option("--data", help="NAME=PATH: a benchmark's rows from a file.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Of each problem; default: the benchmark's.")]
Problems = Annotated[int | None, typer.Option(min=1, help="Only the first problems: not the benchmark.")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Tokens of a response at most.")]
Temperature = Annotated[float | None, typer.Option(min=0, help="In place of the benchmark's.")]
Context = Annotated[int | None, typer.Option(min=1, help="Tokens of prompt and response together.")]
RunFolder = Annotated[Path | None, typer.Option("--out", help="Run folder; an unfinished one goes on.")]


def split(names: str) -> tuple[str, ...]:
    """Read a comma-separated option."""
    return tuple(part.strip() for part in names.split(",") if part.strip())


def chosen_recipe(name: str, changes: Sequence[str] | None) -> Recipe:
    """Read a recipe with its changes; a suite among its benchmarks stands for its members."""
    from archer.evaluation.benchmark import expand
    from archer.recipe.reading import read_recipe

    recipe = read_recipe(name, changes or [])
    return replace(recipe, evaluate=replace(recipe.evaluate, benchmarks=expand(recipe.evaluate.benchmarks)))


def of_model(recipe: Recipe, model: str, context: int | None, server: str = "") -> Recipe:
    """Return the recipe for another model, or for a server that serves it. Raises UserError where none is named."""
    if not model:
        raise UserError("MODEL '': name a folder, a hub name, `lab`, or with `archer eval --server` the name it serves")
    subject = replace(recipe.model, path=model, context=context or recipe.model.context)
    plan = replace(recipe.evaluate, server=server or recipe.evaluate.server)
    return replace(recipe, model=subject, evaluate=plan)


def with_sampling(
    recipe: Recipe, samples: int | None, max_tokens: int | None, temperature: float | None
) -> Recipe:  # fmt: skip
    """Return the recipe with K and single values of the sampling; None keeps the recipe's.

    Raises UserError for a temperature that is no number.
    """
    if temperature is not None and not math.isfinite(temperature):
        raise UserError(f"--temperature {temperature}: expected a number such as 0.6")
    plan = recipe.evaluate
    sampling = plan.sampling if max_tokens is None else replace(plan.sampling, max_tokens=max_tokens)
    sampling = sampling if temperature is None else replace(sampling, temperature=temperature)
    return replace(recipe, evaluate=replace(plan, samples=samples or plan.samples, sampling=sampling))


def with_benchmarks(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """Return the recipe with other benchmarks, suites as their members; no names keep the recipe's."""
    from archer.evaluation.benchmark import expand

    return replace(recipe, evaluate=replace(recipe.evaluate, benchmarks=expand(names))) if names else recipe
