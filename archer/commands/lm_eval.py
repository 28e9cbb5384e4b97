"""``archer lm-eval``: a model on tasks of lm-evaluation-harness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archer.commands.options import (
    Changes,
    Context,
    Copies,
    MaxTokens,
    Problems,
    RecipeName,
    Samples,
    Temperature,
    Threads,
    chosen_recipe,
    of_model,
    split,
    with_sampling,
)
from archer.errors import UserError
from archer.system import under_torchrun
from archer.terminal import say


def lm_eval(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A Hugging Face folder or hub name, or `lab`.")],
    tasks: Annotated[
        str, typer.Argument(metavar="TASKS", help="Comma-separated tasks, groups or tags; see `lm_eval ls tasks`.")
    ],
    recipe: RecipeName = "lab",
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for lm-eval/; an unfinished one goes on.")] = None,
    data: Copies = None,
    include: Annotated[Path | None, typer.Option(help="A folder of more tasks.")] = None,
    chat: Annotated[bool | None, typer.Option(help="Ask through the chat template; default: as tasks say.")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Examples in a prompt, in place of the tasks'.")] = None,
    truncate: Annotated[bool, typer.Option(help="Prompts too long lose their beginning.")] = False,
    samples: Samples = None,
    problems: Problems = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    context: Context = None,
    threads: Threads = 0,
    changes: Changes = None,
) -> None:
    """Evaluate a model on tasks of lm-evaluation-harness, with every outcome written down."""
    if under_torchrun():
        raise UserError("archer lm-eval is one process; start it without torchrun")
    chosen = with_sampling(chosen_recipe(recipe, changes), samples, max_tokens, temperature)
    chosen = of_model(chosen, model, context)
    from archer.evaluation.lm_eval import LmEvalOptions, run_lm_eval
    from archer.evaluation.loaded import read_data
    from archer.evaluation.model import eval_folder

    folder = out or eval_folder(model, "model", seed)
    how = LmEvalOptions(chat, truncate, shots, read_data(data or []), threads)
    say(run_lm_eval(chosen, split(tasks), folder, include, problems, seed, how)["table"])
