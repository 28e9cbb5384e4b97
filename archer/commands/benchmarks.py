"""``archer benchmarks``: what models are evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archer.commands.options import Changes, Unisolated, split
from archer.terminal import say

if TYPE_CHECKING:
    from archer.evaluation.benchmark import Benchmark
    from archer.evaluation.validate import Validation
    from archer.sandbox import Sandbox
    from archer.sandbox.base import Executor
    from archer.types import Problem

app = typer.Typer(no_args_is_help=True, help="What models are evaluated on.")

DATA = typer.Option("--data", help="Where a benchmark's rows lie: NAME=PATH, a .json(l) file or a folder of them.")
Data = Annotated[list[str] | None, DATA]
Name = Annotated[str, typer.Argument(help="A benchmark's name, as `archer benchmarks list` shows it.")]


@app.command("list")
def list_benchmarks() -> None:
    """List the benchmarks, where their rows come from, and what about them is not confirmed yet."""
    from archer.evaluation.benchmark import benchmark_names, read_benchmark, read_suites
    from archer.recipe.rewards import first_reward

    for name in benchmark_names():
        one = read_benchmark(name)
        judge = first_reward(one.data.reward) if one.data.path else "lab"
        unsure = f"  unconfirmed: {', '.join(one.confirm)}" if one.confirm else ""
        say(f"{name:14} {one.problems:>5} problems x {one.samples:<3} {judge:6} {origin(one):52} {one.title}{unsure}")
    for name, members in read_suites().items():
        say(f"{name:14} = {' '.join(members)}")


def origin(benchmark: Benchmark) -> str:
    """Return repository@revision, or that the problems are generated."""
    data = benchmark.data
    return "generated" if data.path is None else f"{data.path}@{(data.revision or '?')[:8]}"


@app.command()
def show(
    name: Name,
    problem: Annotated[int, typer.Option(min=0, help="Print this problem (from 1) as well.")] = 0,
    model: Annotated[str, typer.Option(help="Render it with this model's chat template: a folder, or `lab`.")] = "",
    recipe: Annotated[str, typer.Option(help="Where the template's switches are set.")] = "lab",
    changes: Changes = None,
    data: Data = None,
) -> None:
    """Print what a benchmark pins; with --problem the problem, with --model its prompt as the model sees it."""
    from archer.evaluation.benchmark import benchmark_file

    say(benchmark_file(name).read_text(encoding="utf-8").rstrip())
    if not problem and not model:
        return
    found = chosen(name, max(problem, 1), data)
    say(f"\n--- problem {max(problem, 1)}: {found.id}\n{found.prompt}")
    say(f"--- reward {found.reward}, gold\n{shortened(found.gold)}")
    if found.meta:
        say(f"--- meta\n{shortened(dict(found.meta))}")
    if model:
        render(found, model, recipe, changes)


def chosen(name: str, number: int, data: Sequence[str] | None) -> Problem:
    """Return one problem of a benchmark. Raises DataError where there is none of that number."""
    from archer.errors import DataError
    from archer.evaluation.loaded import located, read_data
    from archer.problems.streams import read_problems

    benchmark = located(name, read_data(data or []))
    problems = read_problems(benchmark.data, benchmark.problems)
    if number > len(problems):
        raise DataError(f"--problem {number}: {name} has {len(problems)}")
    return problems[number - 1]


def shortened(value: object) -> str:
    """Return a value as JSON, cut where it is long: a program's tests can be megabytes."""
    import json

    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 2000 else f"{text[:2000]} ... ({len(text)} characters)"


def render(problem: Problem, model: str, recipe: str, changes: Sequence[str] | None) -> None:
    """Print a problem's prompt through a model's chat template, with the recipe's switches, and its length."""
    from dataclasses import replace

    from archer.models.spec import ModelSpec
    from archer.recipe.reading import read_recipe

    wanted = replace(read_recipe(recipe, changes or []).model, path=model)
    prompts = ModelSpec(wanted).prompts
    say(f"--- prompt for {model}, template {dict(wanted.chat_template_kwargs)}\n{prompts.render(problem)}")
    say(f"--- {len(prompts.encode(problem))} tokens")


@app.command()
def check(
    names: Annotated[list[str], typer.Argument(help="Benchmarks or suites, or `all`.")],
    data: Data = None,
    executor: Annotated[str, typer.Option(help="What runs programs: bubblewrap, docker, process.")] = "bubblewrap",
    workers: Annotated[int, typer.Option(help="Graders and sandboxes side by side (0: one a core).")] = 0,
    allow_unisolated: Unisolated = False,
) -> None:
    """Prove count, checksum and that every gold is graded right; name each row that is not, and what is not proved.

    Exits with 1 unless all is proved, also where there is nothing to prove it with.
    """
    from archer.errors import UserError
    from archer.evaluation.benchmark import benchmark_names, expand
    from archer.evaluation.loaded import read_data
    from archer.evaluation.validate import validate
    from archer.rewards.grading import Grader
    from archer.sandbox import Sandbox

    wanted, where, wrong = benchmark_names() if names == ["all"] else expand(names), read_data(data or []), 0
    with ExitStack() as stack:
        grader = stack.enter_context(Grader(workers, seconds=30))
        opened = LazyExecutor(Sandbox(executor, workers, (), allow_unisolated), stack)
        for name in wanted:
            try:
                proof = validate(name, where, grader, opened)
            except UserError as error:
                say(f"{name}: NOT CHECKED: {error}")
                wrong += 1
                continue
            say(told(proof))
            wrong += not proof.ok
    if wrong:
        say(f"{wrong} of {len(wanted)} benchmarks are not proved")
        raise typer.Exit(1)


class LazyExecutor:
    """An executor that starts when it is first needed: most benchmarks run no program."""

    def __init__(self, sandbox: Sandbox, stack: ExitStack) -> None:
        self.sandbox, self.stack = sandbox, stack
        self.executor: Executor | None = None

    def __call__(self) -> Executor:
        """Return the executor. Raises as :func:`archer.sandbox.open_executor` does."""
        from archer.sandbox import open_executor

        if self.executor is None:
            self.executor = open_executor(self.sandbox)
            self.stack.callback(self.executor.close)
        return self.executor


def told(proof: Validation) -> str:
    """Return a proof as lines: what holds, then what does not."""
    one = proof.benchmark
    golds = f"{proof.graded - len(proof.failing)} of {proof.graded} golds right in {proof.seconds:.1f} s"
    golds = f"; {golds}" if proof.graded else ""
    pinned = ", NOT as pinned" if proof.faults else ", as pinned" if one.sha256 else ""
    lines = [f"{one.name}: {proof.problems} problems, sha256 {proof.sha256[:16]}{pinned}{golds}"]
    lines += [f"  NOT PROVED: {text}" for text in proof.lacking]
    lines += [f"  {fault}" for fault in proof.faults]
    lines += [f"  {name}: {why}; known: {reason}" for name, why, reason in proof.known]
    lines += [f"  {text}" for text in proof.unexpected]
    if one.confirm:
        lines.append(f"  not yet compared with the hub: {', '.join(one.confirm)} (`archer benchmarks pin {one.name}`)")
    return "\n".join(lines)


@app.command("pin", rich_help_panel="Maintenance")
def pin_benchmark(
    name: Name,
    data: Data = None,
    revision: Annotated[str | None, typer.Option(help="Default: the pinned one, else the hub's newest.")] = None,
) -> None:
    """Write the hub's revision and the rows' checksum into the YAML; with --data the checksum alone."""
    from archer.evaluation.loaded import read_data
    from archer.evaluation.pinning import pin

    pinned = pin(name, read_data(data or []), revision)
    same = pinned.before == pinned.sha256
    say(f"{name}: {pinned.problems} problems, sha256 {pinned.sha256}{' as before' if same else ''}")
    if pinned.before and not same:
        say(f"  it was {pinned.before}: results under that checksum are of other rows, and are not comparable")
    say(f"  confirmed at revision {pinned.revision}" if pinned.confirmed else "  the hub is still to be asked")


@app.command("path")
def show_path() -> None:
    """Print the folder to give to `lm_eval --include_path`."""
    from archer.system import suite

    say(suite("benchmarks") / "lm_eval")


@app.command("export", rich_help_panel="Maintenance")
def export_tasks() -> None:
    """Write the benchmarks as lm-eval tasks, after one was added or changed."""
    from archer.evaluation.lm_eval.export import export, folder

    changed = export()
    say("\n".join(str(path) for path in changed) or f"{folder()}: as the benchmarks say")


@app.command("overlap")
def show_overlap(
    training: Annotated[Path, typer.Argument(help="The training rows: .json, .jsonl, or a folder of them.")],
    benchmarks: Annotated[str, typer.Option(help="Comma-separated; default: all that are not generated.")] = "",
    data: Data = None,
    n: Annotated[int, typer.Option(min=2, help="Words in a row that count as shared.")] = 13,
    text: Annotated[str, typer.Option(help="The column with the problem; default: by its usual names.")] = "",
    answer: Annotated[str, typer.Option(help="The column with the answer.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write every pair there: .json or .csv.")] = None,
) -> None:
    """Tell what a training file shares with the benchmarks: words in a row, near-duplicates, answers."""
    from archer.errors import UserError
    from archer.evaluation.benchmark import expand
    from archer.evaluation.loaded import located, read_data
    from archer.tools.overlap import check_out, compare, read_training, statements, summary, write

    check_out(out)
    rows, where, found, missing = read_training(training, text, answer), read_data(data or []), [], 0
    wanted = expand(split(benchmarks)) if benchmarks else outside()
    say(f"{training}: {len(rows)} rows, {n} words in a row")
    for name in wanted:
        try:
            problems = statements(located(name, where))
        except UserError as error:
            say(f"{name:14} NOT COMPARED: {error}")
            missing += 1
            continue
        found.append(compare(name, problems, rows, n))
        say(summary(found[-1]))
    if out:
        write(found, out)
    if missing:
        say(f"{missing} of {len(wanted)} benchmarks were not compared")
        raise typer.Exit(1)


def outside() -> list[str]:
    """Return the benchmarks whose problems are not generated here."""
    from archer.evaluation.benchmark import benchmark_names, read_benchmark

    return [name for name in benchmark_names() if read_benchmark(name).data.path]
