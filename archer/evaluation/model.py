"""``archer eval``: a model as it is, on the benchmarks of a recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from archer.engines.base import Generator
from archer.errors import MissingError, RunFolderError
from archer.evaluation.benchmark import fingerprint
from archer.evaluation.evaluate import EvalWatcher, ModelUnderTest, evaluate, prompts_digest
from archer.evaluation.loaded import LoadedBenchmark, load_benchmark
from archer.evaluation.target import EvalTarget, open_target, stored_target
from archer.problems.streams import judges_programs
from archer.recipe.config import merged
from archer.recipe.sections import DataSource, Recipe
from archer.rewards.grading import Grader, where_programs_ran
from archer.runs.folder import RunWriter, read_manifest
from archer.runs.results import read_result
from archer.runs.samples import SampleStore
from archer.sandbox import Sandbox, open_executor
from archer.sandbox.base import Executor
from archer.system import provenance
from archer.types import Json, Result


@dataclass(frozen=True)
class EvalRequest:
    """What ``archer eval`` asks for: a recipe's model as it is, on the recipe's benchmarks.

    ``data`` says where benchmarks' rows lie, ``store`` where samples are kept (none: ``out/samples``). ``problems``
    cuts each benchmark to its first ones, under a name of its own. ``regrade`` grades the stored samples again.
    """

    recipe: Recipe
    label: str
    seed: int
    out: Path
    threads: int = 0
    unisolated: bool = False
    data: Mapping[str, Path] = field(default_factory=dict)
    store: Path | None = None
    problems: int | None = None
    regrade: bool = False


def evaluate_model(asked: EvalRequest, watch: EvalWatcher) -> list[Result]:
    """Evaluate and write ``out/results/``; benchmarks that this very evaluation finished before are not redone.

    A result of fewer samples than are asked for now is replaced by one of all, its own samples the first of them.
    Raises RunFolderError when ``out`` holds the evaluation of another model, label or seed, and for ``regrade`` when
    there are no samples.
    """
    recipe = asked.recipe
    with ExitStack() as stack:
        if asked.threads:
            torch.set_num_threads(asked.threads)
        exams = load_benchmarks(recipe, asked.data)
        if asked.regrade:
            refuse_without_samples(asked, exams)
        executor = open_sandbox(recipe, [exam.benchmark.data for exam in exams], asked.unisolated, stack)
        subject = stored_target(recipe, asked.out) if asked.regrade else open_target(recipe)
        stack.callback(subject.close)
        grader = stack.enter_context(Grader(recipe.reward.workers, recipe.reward.seconds, executor))
        from_where = {**origin(recipe, executor), "server": subject.server}
        journal = RunWriter(asked.out, eval_manifest(asked, subject, from_where))
        stack.callback(journal.close)
        doubt = "" if asked.regrade else subject.doubt
        who = ModelUnderTest(asked.label, asked.seed, 0, from_where, subject.weights, doubt)
        hall = EvalContext(subject.engine, grader, journal, watch)
        return [
            evaluate_benchmark(asked, exam, replace(who, provenance={**from_where, "notes": list(exam.notes)}), hall)
            for exam in exams
        ]


@dataclass(frozen=True)
class EvalContext:
    """What all of an evaluation's benchmarks share."""

    engine: Generator
    grader: Grader
    journal: RunWriter
    watch: EvalWatcher


def evaluate_benchmark(asked: EvalRequest, exam: LoadedBenchmark, who: ModelUnderTest, hall: EvalContext) -> Result:
    """Evaluate one benchmark, or return the result that this very evaluation left before."""
    name = exam.benchmark.name  # also of its part: the samples are the same
    exam = exam if asked.problems is None else first_problems(exam, asked.problems)
    path = hall.journal.final(exam.benchmark.name)
    before = read_result(path) if path.exists() else None
    if before is not None:
        refuse_other(path, before, exam, who, hall.engine)
        if not asked.regrade and before.samples == exam.benchmark.samples:
            hall.watch.say(other_versions(before, hall.grader, exam))
            return before
    made = {**provenance(), "engine": hall.engine.describe(), "server": who.provenance["server"]}
    with SampleStore(store_of(asked, name), made) as store:
        result = evaluate(hall.engine, hall.grader, exam, who, store, hall.watch)
    hall.journal.result(result, final=True)
    if before is not None:
        hall.watch.say(verdict_changes(before, result))
    return result


def first_problems(exam: LoadedBenchmark, problems: int) -> LoadedBenchmark:
    """Return an exam's first problems as a benchmark of another name and checksum: no table takes it for the whole."""
    part = exam.part(problems, exam.benchmark.samples)
    if len(part.problems) == len(exam.problems):
        return exam
    name, sha256 = f"{exam.benchmark.name}-first-{problems}", fingerprint(part.problems)
    return replace(part, benchmark=replace(part.benchmark, name=name, problems=problems, sha256=sha256))


def store_of(asked: EvalRequest, name: str) -> Path:
    """Return the file of a benchmark's samples."""
    return (asked.store or asked.out / "samples") / f"{name}.jsonl"


def refuse_without_samples(asked: EvalRequest, exams: Sequence[LoadedBenchmark]) -> None:
    """Raise RunFolderError, before anything is written, where there is nothing to grade again."""
    for exam in exams:
        path = store_of(asked, exam.benchmark.name)
        if not path.is_file():
            raise RunFolderError(f"--regrade: {path}: no such file of samples; give the --out (or --store) they are in")


def refuse_other(path: Path, before: Result, exam: LoadedBenchmark, who: ModelUnderTest, engine: Generator) -> None:
    """Raise RunFolderError when a result is of another evaluation than the one asked for, or of more samples."""
    benchmark = exam.benchmark
    pairs = {
        "sha256": (before.sha256, benchmark.sha256),
        "samples": (max(before.samples, benchmark.samples), benchmark.samples),  # more are added to fewer
        "sampling": (before.sampling, benchmark.sampling), "weights": (before.weights, who.weights),
        "prompts": (before.prompts, prompts_digest(engine, exam)),
        "engine": (before.provenance.get("engine"), engine.describe()),
    }  # fmt: skip
    for key, (old, new) in pairs.items():
        if old != new:
            raise RunFolderError(
                f"{path}: holds a result with {key} {old}, this one has {new}; choose another --out (--store "
                f"{path.parent.parent / 'samples'} goes on with its samples)"
            )


def other_versions(before: Result, grader: Grader, exam: LoadedBenchmark) -> str:
    """Return what to say where a finished result was graded by other versions than are here now."""
    now = grader.versions(problem.reward for problem in exam.problems)
    if before.verifier == now:
        return ""
    return f"{before.benchmark}: graded by {before.verifier}, here is {now}; --regrade grades its samples again"


def verdict_changes(before: Result, after: Result) -> str:
    """Return how many verdicts grading again has changed, of the samples that were graded before."""
    flat = [[right for row in result.outcomes for right in row[: before.samples]] for result in (before, after)]
    pairs = list(zip(*flat, strict=True))
    gained, lost = pairs.count((False, True)), pairs.count((True, False))
    return f"{after.benchmark}: graded again: {gained} of {len(pairs)} samples are now right, {lost} now wrong"


def eval_manifest(asked: EvalRequest, subject: EvalTarget, from_where: Mapping[str, Json]) -> dict[str, Json]:
    """Return an evaluation's identity and origin."""
    threads = torch.get_num_threads()
    if asked.regrade:  # draws nothing, so it may run on any machine
        threads = (read_manifest(asked.out) or {}).get("threads", threads)
    own = {"recipe_digest": eval_digest(asked.recipe), "algorithm": asked.label, "seed": asked.seed, "threads": threads}
    return {**from_where, **own, "weights": subject.weights, "engine": dict(subject.engine.describe())}


def eval_digest(recipe: Recipe) -> str:
    """Return a fingerprint of what all that is drawn from a recipe's model depends on.

    What belongs to one benchmark is compared result by result, and each result names the versions that graded it.
    """
    model = {key: value for key, value in asdict(recipe.model).items() if key != "context"}
    parts = [model, recipe.rollout.engine, recipe.update.bf16, recipe.evaluate.server]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def load_benchmarks(recipe: Recipe, data: Mapping[str, Path] | None = None) -> list[LoadedBenchmark]:
    """Load the recipe's benchmarks, checked, drawn as the recipe says."""
    plan = recipe.evaluate
    found = []
    for name in plan.benchmarks:
        exam = load_benchmark(name, plan.samples, data)
        sampling = merged(exam.benchmark.sampling, plan.sampling, "evaluate: sampling")
        found.append(replace(exam, benchmark=replace(exam.benchmark, sampling=sampling)))
    return found


def open_sandbox(recipe: Recipe, sources: Sequence[DataSource], unisolated: bool, stack: ExitStack) -> Executor | None:
    """Start the executor if any source judges programs; ``unisolated`` accepts one that isolates nothing.

    Raises MissingError where the recipe's sandbox cannot start and that was not accepted.
    """
    if not any(judges_programs(source) for source in sources):
        return None
    reward = recipe.reward
    sandbox = Sandbox(reward.sandbox, reward.workers, reward.docker_hosts, unisolated)
    try:
        executor = open_executor(sandbox)
    except MissingError:
        if not unisolated:
            raise
        executor = open_executor(replace(sandbox, executor="process"))
    stack.callback(executor.close)
    return executor


def origin(recipe: Recipe, executor: Executor | None) -> dict[str, Json]:
    """Return what goes into every result: the model, the recipe's fingerprint, commit, versions, machine, sandbox."""
    own = {"model": asdict(recipe.model), "recipe_digest": recipe.digest()}
    return {**own, "sandbox": where_programs_ran(executor), **provenance()}
