"""``archer eval``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archer.commands.options import Changes, Chat, Include, Shots, Threads, Truncate, Unisolated, chosen_recipe, split
from archer.commands.together import refuse_ignored, refuse_unused, refuse_values
from archer.errors import UserError
from archer.system import under_torchrun

if TYPE_CHECKING:
    from archer.evaluation.model import EvalRequest
    from archer.recipe.sections import Recipe


def evaluate(
    options: typer.Context,
    model: Annotated[str, typer.Argument(help="A Hugging Face folder or hub name, `lab`, or a served name.")] = "",
    benchmarks: Annotated[str, typer.Option(help="With suites, comma-separated; default: the recipe's.")] = "",
    recipe: Annotated[str, typer.Option(help="Where engine, rewards and benchmarks are set.")] = "lab",
    label: Annotated[str, typer.Option(help="The row's name in tables.")] = "model",
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for results/; an unfinished one goes on.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="NAME=PATH: a benchmark's rows from a file.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Of each problem; default: the benchmark's.")] = None,
    problems: Annotated[int | None, typer.Option(min=1, help="Only the first problems: not the benchmark.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a response at most.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="In place of the benchmark's.")] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Tokens of prompt and response together.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder of samples for several runs; default: OUT/samples.")
    ] = None,
    regrade: Annotated[bool, typer.Option(help="Grade the stored samples again; nothing is drawn.")] = False,
    server: Annotated[str, typer.Option(help="URL of an OpenAI-compatible server that serves MODEL.")] = "",
    power: Annotated[float | None, typer.Option(help="Say what it takes to see a difference this large.")] = None,
    lm_eval: Annotated[str, typer.Option(help="Tasks of lm-evaluation-harness instead of benchmarks.")] = "",
    include: Include = None,
    chat: Chat = None,
    shots: Shots = None,
    truncate: Truncate = False,
    threads: Threads = 0,
    allow_unisolated: Unisolated = False,
    changes: Changes = None,
) -> None:
    """Evaluate a model as it is."""
    if under_torchrun():
        raise UserError(
            "archer eval is one process; for several GPUs start `vllm serve MODEL --data-parallel-size N` and name it "
            "with --server"
        )
    refuse_ignored(options)
    refuse_values(label, temperature)
    drawn = {"max_tokens": max_tokens, "temperature": temperature}
    chosen = with_options(chosen_recipe(recipe, changes), split(benchmarks), samples, drawn)
    if power is not None:
        say_power(power, chosen.evaluate.benchmarks)
        return
    chosen = of_model(chosen, model, context, server)
    folder = out or Path("runs") / "eval" / f"{Path(model).name}-{label}-{seed}"
    from archer.evaluation.loaded import read_data

    where = read_data(data or [])
    if lm_eval:
        from archer.evaluation.lm_eval import LmEvalOptions, run_lm_eval

        how = LmEvalOptions(chat, truncate, shots, where, threads)
        typer.echo(run_lm_eval(chosen, split(lm_eval), folder, include, problems, seed, how)["table"])
        return
    from archer.evaluation.model import EvalRequest

    refuse_unused(where, chosen.evaluate.benchmarks)
    asked = EvalRequest(chosen, label, seed, folder, threads, allow_unisolated, where, store, problems, regrade)
    say_results(asked)


def with_options(recipe: Recipe, names: Sequence[str], samples: int | None, drawn: dict[str, float | None]) -> Recipe:
    """Return the recipe with benchmarks, K and single values of the sampling as the command line says."""
    from archer.evaluation.benchmark import expand

    plan = recipe.evaluate
    sampling = {**plan.sampling, **{key: value for key, value in drawn.items() if value is not None}}
    chosen = expand(names) if names else plan.benchmarks
    return replace(
        recipe, evaluate=replace(plan, benchmarks=chosen, samples=samples or plan.samples, sampling=sampling)
    )


def of_model(recipe: Recipe, model: str, context: int | None, server: str) -> Recipe:
    """Return the recipe for another model, or for a server that serves it. Raises UserError where none is named."""
    if not model:
        raise UserError("archer eval: name a model: a folder, a hub name, `lab`, or with --server the name it serves")
    subject = replace(recipe.model, path=model, context=context or recipe.model.context)
    plan = replace(recipe.evaluate, server=server or recipe.evaluate.server)
    return replace(recipe, model=subject, evaluate=plan)


def say_results(asked: EvalRequest) -> None:
    """Evaluate, showing how far it is, and print the scorecard."""
    from rich.console import Console

    from archer.evaluation.model import evaluate_model
    from archer.evaluation.scorecard import WIDTH, scorecard
    from archer.runs.progress import EvalProgress

    with EvalProgress() as meter:
        results = evaluate_model(asked, meter)
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH)
    console.print(scorecard(results), highlight=False, markup=False)
    typer.echo(f"\noutcomes of every sample: {asked.out / 'results'}")


def say_power(difference: float, benchmarks: Sequence[str]) -> None:
    """Print how many problems and samples show a difference of this size."""
    from archer.leaderboards.power import report

    typer.echo(report(difference, benchmarks))
