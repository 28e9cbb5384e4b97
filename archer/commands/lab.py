"""``archer lab``: the embedded laboratory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archer.commands.options import Changes, Threads
from archer.errors import UserError
from archer.terminal import say

app = typer.Typer(no_args_is_help=True, help="The embedded laboratory.")


@app.command("pretrain")
def pretrain_model(
    out: Annotated[Path, typer.Option(help="Folder of the model to write.")] = Path("lab-model"),
    threads: Threads = 0,
    changes: Changes = None,
) -> None:
    """Train the embedded base model from nothing, as its committed recipe says."""
    from archer.tools.pretrain import pretrain, read_pretrain

    loss = pretrain(read_pretrain(changes or []), out, threads)
    say(f"{out}: trained, loss {loss:.4f}")


@app.command("show")
def show_problem(task: str, index: int = 0, split: str = "train") -> None:
    """Print a lab problem and a training text of it."""
    from random import Random

    from archer.errors import did_you_mean
    from archer.problems.lab import TASKS

    for word, known in ((task, TASKS), (split, ("train", "test"))):
        if word not in known:
            raise UserError(f"lab show: unknown {word!r}{did_you_mean(word, known)}")
    problem = TASKS[task].problem(split, index)
    say(f"{problem.prompt}\n---\n{TASKS[task].text(problem, Random(index))}")
