"""The ``archer`` command. Each command imports what it needs, so that help and tables need no torch."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from archer.drill import command as sandbox
from archer.errors import ArcherError, UserError
from archer.machine import cores, die_with_parent

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train and compare RLVR algorithms.",
)
lab = typer.Typer(no_args_is_help=True, help="The embedded laboratory.")
benchmarks = typer.Typer(no_args_is_help=True, help="What models are evaluated on.")
app.add_typer(lab, name="lab")
app.add_typer(benchmarks, name="benchmarks")
app.add_typer(sandbox.app, name="sandbox")

Changes = Annotated[list[str] | None, typer.Option("--set", help="Change one recipe value: update.lr=1e-4.")]
Unisolated = Annotated[bool, typer.Option(help="Run programs WITHOUT isolation, where there is no sandbox.")]
Threads = Annotated[int, typer.Option(help="CPU threads of each run (0: chosen for the machine).")]


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
    from archer import compare as comparing
    from archer.recipe import read_recipe

    if recipe and quick:
        raise UserError(f"--quick is a recipe of its own: leave it out, or leave out --recipe {recipe}")
    chosen = read_recipe(recipe or ("lab-quick" if quick else "lab"), changes or [])
    if not recipe and not allow_unisolated:
        chosen, note = comparing.without_programs(chosen)
        typer.echo(note, err=True, nl=bool(note))
    named = [part.strip() for part in algorithms.split(",")] if algorithms else list(chosen.algorithms)
    names = tuple(dict.fromkeys(named))
    count = seeds or (1 if quick else 2)
    side, each = comparing.schedule(len(names) * count, parallel, cores(), gpus() > 0)
    folder = out or Path("runs") / chosen.name
    plan = comparing.Plan(chosen, names, count, folder, side, threads or each, allow_unisolated)
    comparing.compare(plan)
    show(plan.out, report=True)


@app.command()
def train(
    recipe: str,
    algorithm: Annotated[str, typer.Option(help="One of the recipe's algorithms.")] = "",
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="Run folder; an unfinished one goes on.")] = None,
    threads: Threads = 0,
    allow_unisolated: Unisolated = False,
    changes: Changes = None,
) -> None:
    """Train one algorithm with one seed, then evaluate it."""
    from archer.recipe import read_recipe
    from archer.train import Run
    from archer.train import train as run_training

    chosen = read_recipe(recipe, changes or [])
    if not algorithm and len(chosen.algorithms) != 1:
        raise UserError(f"{recipe}: has {', '.join(chosen.algorithms)}; choose one with --algorithm")
    name = algorithm or next(iter(chosen.algorithms))
    folder = out or Path("runs") / chosen.name / name / f"seed-{seed}"
    run_training(Run(chosen, name, seed, folder, threads, allow_unisolated))


@app.command("eval")
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
    from archer.recipe import read_recipe
    from archer.statistics import avg_at_k, mean_interval, pass_at_k
    from archer.train import Exams, examine

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


@app.command()
def table(out: Annotated[Path, typer.Argument(help="A folder that `archer compare` wrote.")]) -> None:
    """Print and write the table of a comparison, recomputed from the outcomes."""
    show(out, report=False)


@app.command()
def report(out: Annotated[Path, typer.Argument(help="A folder that `archer compare` wrote.")]) -> None:
    """Write report.html: table, differences and learning curves."""
    show(out, report=True)


@benchmarks.command("list")
def list_benchmarks() -> None:
    """List the benchmarks."""
    from archer.benchmark import benchmark_names, read_benchmark

    for name in benchmark_names():
        benchmark = read_benchmark(name)
        typer.echo(f"{name:18} {benchmark.problems:>5} problems x {benchmark.samples:<3} {benchmark.title}")


@benchmarks.command("check")
def check_benchmark(name: str) -> None:
    """Prove a benchmark's count and checksum."""
    from archer.evaluate import open_exam

    exam = open_exam(name)
    typer.echo(f"{name}: {len(exam.problems)} problems, sha256 {exam.benchmark.sha256[:16]}: as pinned")


@lab.command("pretrain")
def lab_pretrain(
    out: Annotated[Path, typer.Option(help="Folder of the model to write.")] = Path("lab-model"),
    threads: Threads = 0,
    changes: Changes = None,
) -> None:
    """Train the embedded base model from nothing, as its committed recipe says."""
    from archer.lab.pretrain import pretrain, read_pretrain

    loss = pretrain(read_pretrain(changes or []), out, threads)
    typer.echo(f"{out}: trained, loss {loss:.4f}")


@lab.command("show")
def lab_show(task: str, index: int = 0, split: str = "train") -> None:
    """Print a lab problem and a training text of it."""
    from random import Random

    from archer.errors import did_you_mean
    from archer.lab import TASKS

    for word, known in ((task, TASKS), (split, ("train", "test"))):
        if word not in known:
            raise UserError(f"lab show: unknown {word!r}{did_you_mean(word, known)}")
    problem = TASKS[task].problem(split, index)
    typer.echo(f"{problem.prompt}\n---\n{TASKS[task].text(problem, Random(index))}")


def show(out: Path, *, report: bool) -> None:
    """Print the table of a comparison and write its files."""
    from rich.console import Console

    from archer.standings import read_standings, write_tables
    from archer.tables import render

    standings = read_standings(out)
    write_tables(standings, out)
    if report:
        from archer.report import write_report

        write_report(out, standings)
    Console().print(render(standings))


def gpus() -> int:
    """Return the number of GPUs torch can use."""
    import torch

    return torch.cuda.device_count()


class Stopped(BaseException):
    """Ctrl-C. Not KeyboardInterrupt, which typer turns into its own exit."""


def stop(number: int, frame: object) -> None:
    """Raise Stopped where the program stands; what is under way is redone by the next start."""
    raise Stopped


def main() -> None:
    """Run a command; bad input prints one message and exits with 2, our own failures with 1, Ctrl-C with 130."""
    die_with_parent()
    signal.signal(signal.SIGINT, stop)
    try:
        app()
    except Stopped:
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
