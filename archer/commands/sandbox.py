"""``archer sandbox``: try the sandbox by hand, validate it on real programs, make its image, attack it, measure it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archer.errors import UserError
from archer.terminal import say

if TYPE_CHECKING:
    from archer.sandbox import Sandbox
    from archer.sandbox.base import Input, ProgramRun
    from archer.tools.attacks.bench import BenchFigure

app = typer.Typer(
    no_args_is_help=True, help="Where programs run: try it, validate it on real programs, make its image."
)

ExecutorName = Annotated[str, typer.Option("--executor", help="bubblewrap, docker or process.")]
Workers = Annotated[int, typer.Option(min=0, help="Sandboxes side by side (0: one a core).")]
DockerHosts = Annotated[
    list[str] | None, typer.Option("--docker-host", help="A Docker host's URL, as in DOCKER_HOST; may be repeated.")
]
FormerHosts = Annotated[list[str] | None, typer.Option("--engine", hidden=True)]  # what --docker-host was called
Unisolated = Annotated[bool, typer.Option(help="Accept `--executor process`, which isolates nothing.")]


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="The program.")],
    text: Annotated[str, typer.Option("--input", help="Text on its standard input.")] = "",
    input_file: Annotated[Path | None, typer.Option(help="A file for its standard input.")] = None,
    call: Annotated[str, typer.Option(help="Evaluate this after the program: 'f([1, 2])'.")] = "",
    executor: ExecutorName = "bubblewrap",
    docker_host: DockerHosts = None,
    engine: FormerHosts = None,
    allow_unisolated: Unisolated = False,
) -> None:
    """Run one program as a reward would, and explain what came of it."""
    from archer.rewards.prelude import PRELUDE
    from archer.sandbox import open_executor
    from archer.sandbox.base import Expression, ProgramJob, Stdin, in_order
    from archer.sandbox.limits import default_limits

    if call and (text or input_file):
        raise UserError("sandbox run: --call gives the program no input; leave out --input and --input-file")
    given: Input = Expression(call) if call else Stdin(read(input_file) if input_file else text)
    job = ProgramJob(read(file), in_order(given), default_limits(), PRELUDE)
    opened = open_executor(named(executor, 1, hosts(docker_host, engine), allow_unisolated))
    try:
        [(_, outcome)] = opened.execute([job])
    finally:
        opened.close()
    explain(outcome.runs[0], bool(call))


@app.command(rich_help_panel="Maintenance")
def attack(
    executor: ExecutorName = "bubblewrap",
    workers: Workers = 0,
    docker_host: DockerHosts = None,
    engine: FormerHosts = None,
    only: Annotated[str, typer.Option(help="Only attacks of classes whose name holds this.")] = "",
) -> None:
    """Run the corpus of hostile programs, and the honest ones; fail if any attack scores or has an effect.

    How an attack ended otherwise than written down is a note.
    """
    from archer.tools.attacks.attack import render, run_attacks

    report = run_attacks(named(executor, workers, hosts(docker_host, engine)), only)
    say(render(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command(rich_help_panel="Maintenance")
def bench(
    executor: ExecutorName = "bubblewrap",
    workers: Workers = 0,
    docker_host: DockerHosts = None,
    engine: FormerHosts = None,
    soak: Annotated[int, typer.Option(min=0, help="Programs of the soak, one in five hostile (0: none).")] = 10_000,
) -> None:
    """Measure latency, throughput, kills, attacks, steadiness and a soak on this machine."""
    from archer.tools.attacks.attack import refuse_process, run_attacks, summary
    from archer.tools.attacks.bench import honest_programs, kills, latency, soaked, steadiness, throughput

    sandbox = named(executor, workers, hosts(docker_host, engine))
    refuse_process(sandbox)
    for measure in (latency, throughput, kills):
        show(measure(sandbox))
    show(summary(run_attacks(sandbox)))
    show(steadiness(sandbox, honest_programs()))
    if soak:
        show(soaked(sandbox, soak))


@app.command()
@app.command("prove", hidden=True)  # what it was called
def validate(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="humaneval, mbpp, leetcode, livecodebench ...")],
    file: Annotated[Path, typer.Argument(help="The data set's rows, .json or .jsonl.")],
    programs: Annotated[Path | None, typer.Option(help="Programs known to be right; else reference solutions.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Judge every program so often, and compare.")] = 1,
    load: Annotated[int, typer.Option(min=0, help="Keep every core busy so many times over meanwhile.")] = 0,
    executor: ExecutorName = "bubblewrap",
    workers: Workers = 0,
    docker_host: DockerHosts = None,
    engine: FormerHosts = None,
    allow_unisolated: Unisolated = False,
) -> None:
    """Check that right programs earn the reward; fail and name each that does not."""
    from archer.evaluation import reference_programs as real
    from archer.tools.attacks.bench import busy, opened

    found, unknown = real.labelled(form, file, programs) if programs else (real.references(form, file), [])
    with opened(named(executor, workers, hosts(docker_host, engine), allow_unisolated)) as pool, busy(load):
        judged = real.judge_programs(pool, found, rounds)
    for one, reason, detail in judged.failed:
        say(f"{one.problem.id}: {reason}: {detail}")
    if unknown:
        say(f"{len(unknown)} programs left out, {file} has no such problems: {', '.join(unknown)}")
    say(f"{len(found) - len(judged.failed)} of {len(found)} right, {judged.seconds / rounds:.1f} s a round")
    if rounds > 1:
        say(f"{judged.stable} of {len(found)} had the same verdict in all {rounds} rounds")
    if judged.failed or not found:
        raise typer.Exit(1)


@app.command()
def image(
    root: Annotated[Path | None, typer.Option(help="A Debian root to make it of, where there is no registry.")] = None,
    docker_host: DockerHosts = None,
    engine: FormerHosts = None,
) -> None:
    """Build the image of the docker executor, on every Docker host named."""
    try:
        from archer.sandbox.image import build_image
    except ImportError as error:
        raise UserError("sandbox: docker: needs `pip install 'archer-rlvr[docker]'`") from error

    for host in hosts(docker_host, engine) or [""]:
        say(f"{host or 'the default Docker host'}: {build_image(host, root)}")


def hosts(named: list[str] | None, former: list[str] | None) -> list[str]:
    """Return the Docker hosts of both spellings of the option."""
    return [*(named or ()), *(former or ())]


def named(executor: str, workers: int, docker_hosts: Sequence[str], unisolated: bool = False) -> Sandbox:
    """Return the sandbox that the options name."""
    from archer.sandbox import Sandbox

    return Sandbox(executor, workers, tuple(docker_hosts), unisolated)


def read(path: Path) -> str:
    """Return a file's text. Raises UserError for one that is missing or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def explain(run: ProgramRun, called: bool) -> None:
    """Print a run: how it ended, why, and what it gave."""
    say(f"{run.status}{': ' if run.detail else ''}{run.detail}")
    say(f"exit code {run.exit_code}, {run.seconds:.3f} s elapsed, {run.cpu_seconds:.3f} s of CPU time")
    if called and run.status == "ok":
        say(f"value: {run.value!r}")
    for name, text in (("standard output", run.stdout), ("standard error", run.stderr)):
        if text:
            say(f"--- {name}\n{text.removesuffix(chr(10))}")


def show(figures: Iterable[BenchFigure]) -> None:
    """Print one line a figure."""
    for figure in figures:
        say(f"{figure.name:38} {figure.value:28} {figure.note}")
