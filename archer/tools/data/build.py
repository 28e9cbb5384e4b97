"""``archer data build``: build a training set.

Read every source -> run the pipeline's steps, each of which only drops -> write rows that a recipe can train on. If it
is killed at any moment, the same command continues, and ends with the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from archer.errors import DataError, did_you_mean
from archer.evaluation.evaluate import EvalWatcher
from archer.recipe.sections import EvaluateSection, ModelSection, Recipe
from archer.system import provenance, write_aside
from archer.tools.data.candidate import Ask, Candidates, problems, read_drops
from archer.tools.data.origins import Origin, pinned, rows_of
from archer.tools.data.pipeline import Pipeline
from archer.tools.data.reading import reader
from archer.tools.data.sampling import FilterModel
from archer.tools.data.steps import StepTools
from archer.tools.data.work import BuildFolder, LineWriter, Report, key
from archer.types import Json


@dataclass(frozen=True)
class DataBuild:
    """What to build. ``filters`` and ``servers`` are models and URLs by step, ``skip`` names sources and steps."""

    pipeline: Pipeline
    out: Path
    benchmarks: Mapping[str, Path] = field(default_factory=dict)
    filters: Mapping[str, str] = field(default_factory=dict)
    servers: Mapping[str, str] = field(default_factory=dict)
    skip: tuple[str, ...] = ()
    seed: int = 0
    unisolated: bool = False

    def __post_init__(self) -> None:
        """Raise DataError for names that the pipeline does not have, and if every source is skipped."""
        known = [*(origin.name for origin in self.pipeline.sources), *self.pipeline.steps]
        for name in self.skip:
            if name not in known:
                raise DataError(f"--skip {name}: no such source or step{did_you_mean(name, known)}")
        for name in self.servers:
            if name not in self.filters:
                raise DataError(f"--server {name}=...: name the model it serves with --filter {name}=MODEL")
        if all(origin.name in self.skip for origin in self.pipeline.sources):
            raise DataError("--skip: every source is skipped; keep at least one")

    @property
    def rows(self) -> Path:
        """The file of the training set."""
        return self.out / f"{self.pipeline.name}.jsonl"


def build(asked: DataBuild, work: BuildFolder, watch: EvalWatcher) -> dict[str, Json]:
    """Build the training set and its manifest; return the manifest. Finished stages are not repeated.

    Raises DataError for sources and benchmarks that cannot be read, and what models, sandbox and graders raise.
    """
    read = read_sources(asked, work)
    files = tuple(work.folder / f"{name}.jsonl" for name in read)
    ask = problems(asked.pipeline.reward, asked.pipeline.instruction)
    steps, left = run_steps(asked, work, watch, Candidates(files), [report["sha256"] for report in read.values()])
    made_of = [report["sha256"] for report in (*read.values(), *steps.values()) if "sha256" in report]
    parts = [asked.pipeline.reward, asked.pipeline.instruction, made_of]
    written = work.stage("write", parts, writer(left, ask), asked.rows)
    manifest = described(asked, read, steps, written)
    write_aside(asked.out / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return manifest


def read_sources(asked: DataBuild, work: BuildFolder) -> dict[str, Report]:
    """Read the sources that are not skipped; return their reports by name."""
    reports = {}
    for origin in asked.pipeline.sources:
        if origin.name not in asked.skip:
            reports[origin.name] = read_source(asked.pipeline, pinned(origin), work)
    return reports


def read_source(pipeline: Pipeline, origin: Origin, work: BuildFolder) -> Report:
    """Read one source, unless its stage is finished; return its report."""
    known = rows_of(origin.rows)
    drops = work.folder / f"{origin.name}.dropped.jsonl"
    work.say(f"{origin.name}: reading {origin.path}")
    parts = [known, origin.shape, pipeline.reward, pipeline.drop_examples]
    return {**work.stage(origin.name, parts, reader(pipeline, origin, drops)), "from": known}


def run_steps(
    asked: DataBuild, work: BuildFolder, watch: EvalWatcher, left: Candidates, digests: Sequence[Json]
) -> tuple[dict[str, Report], Candidates]:
    """Run the steps in order; return their reports by name, and the candidates that are left."""
    ask, digests = problems(asked.pipeline.reward, asked.pipeline.instruction), list(digests)
    reports = dict[str, Report]()
    for number, name in enumerate(asked.pipeline.steps, 1):
        why = not_done(asked, name)
        if why:
            work.say(f"{name}: NOT DONE: {why}")
            reports[name] = {"not_done": why}
            continue
        report = run_step(asked, work, watch, left, f"{number:02d}-{name}", digests, ask)
        dropped = {drop.id for drop in read_drops(work.folder / f"{number:02d}-{name}.jsonl")}
        left = replace(left, dropped=left.dropped | dropped)
        digests.append(report["sha256"])
        reports[name] = report
    return reports, left


def not_done(asked: DataBuild, name: str) -> str:
    """Return why a step is not run; empty if it is."""
    if name in asked.skip:
        return "skipped"
    if asked.pipeline.asks(name) and name not in asked.filters:
        return f"no --filter {name}=MODEL"
    return ""


def run_step(
    asked: DataBuild,
    work: BuildFolder,
    watch: EvalWatcher,
    left: Candidates,
    stage: str,
    digests: Sequence[Json],
    ask: Ask,
) -> Report:
    """Run one step on the candidates that are left, unless its stage is finished; return its report."""
    name = stage.partition("-")[2]
    step, who = asked.pipeline.step(name), None
    if asked.pipeline.asks(name):
        who = sampler(asked, name, watch)
    tools = StepTools(ask, work.folder, asked.benchmarks, who)
    known = step.identity(tools)
    parts = [repr(step), known, asked.pipeline.reward, asked.pipeline.instruction, list(digests)]
    tools = replace(tools, folder=work.folder / f"{stage}-{key(stage, parts)[:8]}")

    def write(lines: LineWriter) -> Report:
        reasons = dict[str, int]()
        for drop in step(left, tools):
            lines.write(drop.line())
            reasons[drop.reason] = reasons.get(drop.reason, 0) + 1
        return {"dropped": dict(sorted(reasons.items())), **tools.facts, **({"from": known} if known else {})}

    return work.stage(stage, parts, write)


def sampler(asked: DataBuild, name: str, watch: EvalWatcher) -> FilterModel:
    """Return the model of a step that needs one."""
    pipeline, values = asked.pipeline, asked.pipeline.steps[name]
    model = ModelSection(
        asked.filters[name], chat_template_kwargs=values.get("template") or {}, context=values.get("context")
    )
    recipe = Recipe(
        name=f"{pipeline.name}: {name}", steps=1, data=(), algorithms={}, model=model,
        rollout=pipeline.rollout, reward=pipeline.grading, evaluate=EvaluateSection(server=asked.servers.get(name, "")),
    )  # fmt: skip
    recipe = replace(recipe, update=replace(recipe.update, bf16=pipeline.bf16))
    return FilterModel(name, recipe, pipeline.reward, asked.seed, asked.unisolated, watch)


def writer(left: Candidates, ask: Ask) -> Callable[[LineWriter], Report]:
    """Return the function that writes the rows of a recipe's source: ``id``, ``source``, ``prompt``, ``answer``."""

    def write(lines: LineWriter) -> Report:
        for candidate in left:
            problem = ask(candidate)
            row = {"id": candidate.id, "source": candidate.source, "prompt": problem.prompt, "answer": problem.gold}
            lines.write(json.dumps(row) + "\n")
        return {}

    return write


def described(
    asked: DataBuild, read: Mapping[str, Report], steps: Mapping[str, Report], written: Report
) -> dict[str, Json]:
    """Return the manifest: what the rows were made from, all counts, and what was not done."""
    pipeline = asked.pipeline
    skipped = [origin.name for origin in pipeline.sources if origin.name in asked.skip]
    return {
        "pipeline": asdict(pipeline), "seed": asked.seed,
        "rows": written["lines"], "sha256": written["sha256"], "file": asked.rows.name,
        "sources": dict(read), "steps": dict(steps),
        "not_done": {**dict.fromkeys(skipped, "source skipped"),
                     **{name: report["not_done"] for name, report in steps.items() if "not_done" in report}},
        **provenance(),
    }  # fmt: skip
