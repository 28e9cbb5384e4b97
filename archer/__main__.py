"""The ``archer`` command. Each command imports what it needs, so that help and tables need no torch."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from archer.commands import benchmarks, data, sandbox
from archer.commands.evaluate import evaluate
from archer.commands.options import Changes, Threads, Unisolated, chosen_recipe, split
from archer.commands.tables import report, show, table
from archer.errors import ArcherError, UserError
from archer.system import die_with_parent, gpu_count, under_torchrun

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train and compare RLVR algorithms.",
)
lab = typer.Typer(no_args_is_help=True, help="The embedded laboratory.")
app.add_typer(lab, name="lab")
app.add_typer(benchmarks.app, name="benchmarks")
app.add_typer(data.app, name="data")
app.add_typer(sandbox.app, name="sandbox")
app.command("eval")(evaluate)
app.command()(table)
app.command()(report)


@app.command()
def compare(
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name or a .yaml file.")] = "",
    algorithms: Annotated[str, typer.Option(help="Comma-separated; default: the recipe's.")] = "",
    seeds: Annotated[int | None, typer.Option(min=1, help="Training runs of each algorithm.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; an unfinished one goes on.")] = None,
    quick: Annotated[bool, typer.Option(help="A first table in minutes: a short recipe, one seed.")] = False,
    parallel: Annotated[int, typer.Option(help="Runs side by side (0: one a core).")] = 0,
    threads: Threads = 0,
    allow_unisolated: Unisolated = False,
    changes: Changes = None,
) -> None:
    """Train algorithms from one base model, evaluate all, print the table that compares them."""
    import archer.compare as comparing

    if recipe and quick:
        raise UserError(f"--quick is a recipe of its own: leave it out, or leave out --recipe {recipe}")
    chosen = chosen_recipe(recipe or ("lab-quick" if quick else "lab"), changes)
    if not recipe and not allow_unisolated:
        chosen, note = comparing.without_programs(chosen)
        typer.echo(note, err=True, nl=bool(note))
    names = tuple(dict.fromkeys(split(algorithms) or chosen.algorithms))
    count = seeds or (1 if quick else 2)
    comparing.compare(chosen, names, count, out, parallel=parallel, threads=threads, allow_unisolated=allow_unisolated)
    show(out or Path("runs") / chosen.name, report=True)


@app.command()
def train(
    recipe: str,
    algorithm: Annotated[str, typer.Option(help="One of the recipe's algorithms.")] = "",
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="Run folder; an unfinished one goes on.")] = None,
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


@lab.command("pretrain")
def lab_pretrain(
    out: Annotated[Path, typer.Option(help="Folder of the model to write.")] = Path("lab-model"),
    threads: Threads = 0,
    changes: Changes = None,
) -> None:
    """Train the embedded base model from nothing, as its committed recipe says."""
    from archer.tools.pretrain import pretrain, read_pretrain

    loss = pretrain(read_pretrain(changes or []), out, threads)
    typer.echo(f"{out}: trained, loss {loss:.4f}")


@lab.command("show")
def lab_show(task: str, index: int = 0, split: str = "train") -> None:
    """Print a lab problem and a training text of it."""
    from random import Random

    from archer.errors import did_you_mean
    from archer.problems.lab import TASKS

    for word, known in ((task, TASKS), (split, ("train", "test"))):
        if word not in known:
            raise UserError(f"lab show: unknown {word!r}{did_you_mean(word, known)}")
    problem = TASKS[task].problem(split, index)
    typer.echo(f"{problem.prompt}\n---\n{TASKS[task].text(problem, Random(index))}")


class Interrupted(BaseException):
    """Ctrl-C. Not KeyboardInterrupt, which typer turns into its own exit."""


def stop(number: int, frame: object) -> None:
    """Raise Stopped where the program stands; what is under way is redone by the next start."""
    raise Interrupted


def main() -> None:
    """Run a command; bad input prints one message and exits with 2, our own failures with 1, Ctrl-C with 130."""
    die_with_parent()
    signal.signal(signal.SIGINT, stop)
    try:
        app()
    except Interrupted:
        typer.echo("stopped; the same command goes on with what is not finished", err=True)
        sys.exit(130)
    except UserError as error:
        sys.exit(fail(error, 2))
    except ArcherError as error:
        sys.exit(fail(error, 1))
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(fail(UserError(f"{error.filename}: {error.strerror}; what was finished is kept"), 2))


def fail(error: ArcherError, code: int) -> int:
    """Print an error and return its exit code."""
    typer.echo(f"archer: {error}", err=True)
    return code


if __name__ == "__main__":
    main()
