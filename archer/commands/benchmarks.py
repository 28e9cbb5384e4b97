"""``archer benchmarks``: what models are evaluated on."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="What models are evaluated on.")


@app.command("list")
def list_benchmarks() -> None:
    """List the benchmarks."""
    from archer.benchmark import benchmark_names, read_benchmark

    for name in benchmark_names():
        benchmark = read_benchmark(name)
        typer.echo(f"{name:18} {benchmark.problems:>5} problems x {benchmark.samples:<3} {benchmark.title}")


@app.command("check")
def check_benchmark(name: str) -> None:
    """Prove a benchmark's count and checksum."""
    from archer.exams import open_exam

    exam = open_exam(name)
    typer.echo(f"{name}: {len(exam.problems)} problems, sha256 {exam.benchmark.sha256[:16]}: as pinned")
