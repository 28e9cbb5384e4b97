"""``archer eval``: a model as it is, on benchmarks."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from archer.commands.options import (
    Benchmarks,
    Changes,
    Context,
    Copies,
    MaxTokens,
    Problems,
    RecipeName,
    Samples,
    Temperature,
    Threads,
    Unisolated,
    chosen_recipe,
    of_model,
    split,
    with_benchmarks,
    with_sampling,
)
from archer.errors import UserError
from archer.system import under_torchrun
from archer.terminal import say, terminal

if TYPE_CHECKING:
    from archer.evaluation.model import EvalRequest

SPECIAL = "/\\|"  # a label is part of folders' names and of markdown tables
MOVED = {"--lm-eval": "archer lm-eval MODEL TASKS", "--power": "archer power EFFECT"}


class EvalCommand(TyperCommand):
    """``archer eval``, which names the commands that do what two of its options did before."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line. Raises UserError for an option that is a command of its own."""
        for word in args if not ctx.resilient_parsing else ():
            option = word.partition("=")[0]
            if option in MOVED:
                raise UserError(f"archer eval {option}: this is a command of its own: `{MOVED[option]}`")
        return super().parse_args(ctx, args)


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A Hugging Face folder or hub name, `lab`, or a served name.")
    ],
    benchmarks: Benchmarks = "",
    recipe: RecipeName = "lab",
    label: Annotated[str, typer.Option(help="The row's name in tables.")] = "model",
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for results/; an unfinished one goes on.")] = None,
    data: Copies = None,
    samples: Samples = None,
    problems: Problems = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    context: Context = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder of samples for several runs; default: OUT/samples.")
    ] = None,
    regrade: Annotated[bool, typer.Option(help="Grade the stored samples again; nothing is drawn.")] = False,
    server: Annotated[str, typer.Option(help="URL of an OpenAI-compatible server that serves MODEL.")] = "",
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
    if server and context:
        raise UserError("--context: what --server serves has its own; leave it out")
    check_label(label)
    chosen = with_benchmarks(chosen_recipe(recipe, changes), split(benchmarks))
    chosen = of_model(with_sampling(chosen, samples, max_tokens, temperature), model, context, server)
    from archer.evaluation.loaded import read_data
    from archer.evaluation.model import EvalRequest, eval_folder

    where = read_data(data or [])
    refuse_unused(where, chosen.evaluate.benchmarks)
    folder = out or eval_folder(model, label, seed)
    say_results(EvalRequest(chosen, label, seed, folder, threads, allow_unisolated, where, store, problems, regrade))


def check_label(label: str) -> None:
    """Raise UserError for a label that no table or folder can hold."""
    if label != label.strip() or not label.isprintable() or not label.strip(".") or set(label) & set(SPECIAL):
        raise UserError(f"--label {label!r}: expected a plain name, without any of {' '.join(SPECIAL)}")


def refuse_unused(data: Collection[str], benchmarks: Collection[str]) -> None:
    """Raise UserError for rows of a benchmark that is not asked for."""
    for name in data:
        if name not in benchmarks:
            raise UserError(
                f"--data {name}: not among the benchmarks asked for ({', '.join(benchmarks)}); leave it out, or add it "
                "to --benchmarks"
            )


def say_results(asked: EvalRequest) -> None:
    """Evaluate, showing how far it is, and print the scorecard."""
    from archer.evaluation.model import evaluate_model
    from archer.evaluation.scorecard import WIDTH, scorecard
    from archer.runs.progress import EvalProgress

    with EvalProgress() as meter:
        results = evaluate_model(asked, meter)
    console = terminal()
    console = console if console.is_terminal else terminal(width=WIDTH)
    console.print(scorecard(results), highlight=False, markup=False)
    say(f"\noutcomes of every sample: {asked.out / 'results'}")
