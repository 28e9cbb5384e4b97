"""``archer data``: training sets from public problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archer.commands.options import Threads, Unisolated
from archer.terminal import say

if TYPE_CHECKING:
    from archer.tools.data.build import DataBuild
    from archer.tools.data.pipeline import Pipeline

app = typer.Typer(no_args_is_help=True, help="Training sets from public problems.")

DATA = "NAME=PATH: the rows of a source or a benchmark, a .json(l) file or a folder of them."
FILTER = "STEP=MODEL: who answers in a sampling step, or counts tokens; without it the step is not done."
SERVER = "STEP=URL: an OpenAI-compatible server that serves that step's MODEL."


@app.command("list")
def list_pipelines() -> None:
    """List the pipelines, their sources and their steps."""
    from archer.tools.data.pipeline import pipeline_names, read_pipeline

    for name in pipeline_names():
        found = read_pipeline(name)
        say(f"{name}: {found.title}\n  steps: {' -> '.join(['read', *found.steps, 'write'])}")
        for origin in found.sources:
            say(f"  {origin.name:24} {origin.path}{f' ({origin.config})' if origin.config else ''}")


@app.command()
def build(
    pipeline: Annotated[str, typer.Argument(help="A pipeline that `archer data list` names, or a .yaml file.")],
    out: Annotated[Path | None, typer.Option(help="Folder of rows and manifest; an unfinished one goes on.")] = None,
    data: Annotated[list[str] | None, typer.Option(help=DATA)] = None,
    filters: Annotated[list[str] | None, typer.Option("--filter", help=FILTER)] = None,
    servers: Annotated[list[str] | None, typer.Option("--server", help=SERVER)] = None,
    skip: Annotated[list[str] | None, typer.Option(help="A source or a step to leave out.")] = None,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    threads: Threads = 0,
    allow_unisolated: Unisolated = False,
    changes: Annotated[list[str] | None, typer.Option("--set", help="One value: steps.duplicates.share=0.8.")] = None,
) -> None:
    """Make a training set: read, drop, write; counts of every step, and what was not done, in manifest.json."""
    from archer.runs.progress import EvalProgress
    from archer.tools.data.build import build as run
    from archer.tools.data.pipeline import read_pipeline
    from archer.tools.data.table import closing, table
    from archer.tools.data.work import BuildFolder

    if threads:
        import torch

        torch.set_num_threads(threads)
    chosen = read_pipeline(pipeline, changes or [])
    models = FilterModels(filters or [], servers or [], seed, allow_unisolated)
    asked = asked_for(chosen, out or Path("runs") / "data" / chosen.name, data or [], skip or [], models)
    with BuildFolder(asked.out, partial(say, err=True)) as work, EvalProgress() as meter:
        manifest = run(asked, work, meter)
    say(table(manifest, work.seconds()))
    say(closing(manifest, str(asked.rows)))


@dataclass(frozen=True)
class FilterModels:
    """The options that say who answers, and how."""

    filters: Sequence[str]
    servers: Sequence[str]
    seed: int
    unisolated: bool


def asked_for(
    pipeline: Pipeline, out: Path, data: Sequence[str], skip: Sequence[str], models: FilterModels
) -> DataBuild:
    """Return what the options ask for. Raises DataError for one that names nothing that there is."""
    from archer.evaluation.benchmark import benchmark_names
    from archer.evaluation.loaded import read_data
    from archer.tools.data.build import DataBuild
    from archer.tools.data.origins import placed
    from archer.tools.data.pipeline import named
    from archer.tools.data.steps import DropBySamples

    benchmarks = [text for text in data if text.partition("=")[0] in benchmark_names()]
    rows = [text for text in data if text not in benchmarks]
    where = named("--data", rows, [one.name for one in pipeline.sources])
    pipeline = replace(pipeline, sources=tuple(placed(one, where.get(one.name)) for one in pipeline.sources))
    asking = [name for name in pipeline.steps if pipeline.asks(name)]
    drawing = [name for name in asking if isinstance(pipeline.step(name), DropBySamples)]
    return DataBuild(
        pipeline,
        out,
        read_data(benchmarks),
        named("--filter", models.filters, asking),
        named("--server", models.servers, drawing),
        tuple(skip),
        models.seed,
        models.unisolated,
    )
