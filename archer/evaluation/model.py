"""``archer eval``: evaluating a model on the benchmarks of a recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean

import torch

from archer.engines.base import Generator
from archer.engines.spec import EngineSpec
from archer.errors import DataError, RunFolderError
from archer.evaluation.benchmark import fingerprint
from archer.evaluation.evaluate import EvalWatcher, ModelUnderTest, evaluate, prompts_digest
from archer.evaluation.loaded import LoadedBenchmark, load_benchmark
from archer.evaluation.named_metrics import metric_sources
from archer.evaluation.target import EvalTarget, open_target, stored_target
from archer.problems.streams import reward_of
from archer.recipe.config import merged
from archer.recipe.rewards import counted_reward
from archer.recipe.sections import EvaluateSection, Recipe
from archer.rewards.grading import Grader
from archer.rewards.opening import open_grader
from archer.runs.folder import RunWriter, read_manifest
from archer.runs.outside import outside_parts
from archer.runs.results import read_result
from archer.runs.samples import SampleStore
from archer.system import provenance
from archer.types import Json, Result


@dataclass(frozen=True)
class EvalRequest:
    """The options of ``archer eval``, which evaluates a recipe's model on the recipe's benchmarks."""

    recipe: Recipe
    label: str
    """The model's row in tables."""
    seed: int
    """Seed of the samples' random streams."""
    out: Path
    threads: int = 0
    """CPU threads; 0: torch's own choice."""
    unisolated: bool = False
    """Whether programs may run without isolation."""
    data: Mapping[str, Path] = field(default_factory=dict)
    """Files of benchmarks' rows, by name."""
    store: Path | None = None
    """The folder of samples; None: ``out/samples``."""
    problems: int | None = None
    """Only the first problems of each benchmark, under a different name; None: all."""
    regrade: bool = False
    """Whether to grade the stored samples again."""


def eval_folder(model: str, label: str, seed: int) -> Path:
    """Return the default folder of an evaluation."""
    return Path("runs") / "eval" / f"{Path(model).name}-{label}-{seed}"


def evaluate_model(request: EvalRequest, watch: EvalWatcher) -> list[Result]:
    """Evaluate and write ``out/results/``; benchmarks that this very evaluation finished before are not redone.

    A result of fewer samples than are asked for now is replaced by one of all, its own samples the first of them.
    Raises RunFolderError when ``out`` holds the evaluation of another model, label or seed, and for ``regrade`` when
    there are no samples.
    """
    recipe, spec, server = request.recipe, EngineSpec.of(request.recipe), request.recipe.evaluate.server
    with ExitStack() as stack:
        if request.threads:
            torch.set_num_threads(request.threads)
        benchmarks = load_benchmarks(recipe.evaluate, request.data)
        if request.regrade:
            refuse_without_samples(request, benchmarks)
        rewards = {counted_reward(reward_of(loaded.benchmark.data)) for loaded in benchmarks}
        grader = open_grader(recipe.reward, rewards, request.unisolated, stack)
        target = stored_target(spec, server, request.out) if request.regrade else open_target(spec, server)
        stack.callback(target.close)
        origin = {**result_origin(recipe, grader), "server": target.server}
        writer = RunWriter(request.out, eval_manifest(request, target, origin))
        stack.callback(writer.close)
        doubt = "" if request.regrade else target.doubt
        model = ModelUnderTest(request.label, request.seed, 0, origin, target.weights, doubt)
        context = EvalContext(target.engine, grader, writer, watch)
        return [
            evaluate_benchmark(
                request, loaded, replace(model, provenance={**origin, "notes": list(loaded.notes)}), context
            )
            for loaded in benchmarks
        ]


@dataclass(frozen=True)
class EvalContext:
    """The objects that all benchmarks of an evaluation share."""

    engine: Generator
    grader: Grader
    writer: RunWriter
    watch: EvalWatcher


def evaluate_benchmark(
    request: EvalRequest, loaded: LoadedBenchmark, model: ModelUnderTest, context: EvalContext
) -> Result:
    """Evaluate one benchmark, or return the result if this evaluation already wrote it."""
    name = loaded.benchmark.name  # the name of the store, shared with evaluations of the first problems
    loaded = loaded if request.problems is None else first_problems(loaded, request.problems)
    path = context.writer.final(loaded.benchmark.name)
    before = read_result(path) if path.exists() else None
    if before is not None:
        refuse_other(path, before, loaded, model, context.engine)
        if not request.regrade and before.samples == loaded.benchmark.samples:
            context.watch.say(other_versions(before, context.grader, loaded))
            return with_metrics(before, loaded.benchmark.metrics, context.writer)
    made = {**provenance(), "engine": context.engine.describe(), "server": model.provenance["server"]}
    with SampleStore(store_of(request, name), made) as store:
        result = evaluate(context.engine, context.grader, loaded, model, store, context.watch)
    context.writer.result(result, final=True)
    if before is not None:
        context.watch.say(verdict_changes(before, result))
    return result


def first_problems(loaded: LoadedBenchmark, problems: int) -> LoadedBenchmark:
    """Return a benchmark's first problems under another name and checksum, so that no table mixes them."""
    part = loaded.part(problems, loaded.benchmark.samples)
    if len(part.problems) == len(loaded.problems):
        return loaded
    name, sha256 = f"{loaded.benchmark.name}-first-{problems}", fingerprint(part.problems)
    return replace(part, benchmark=replace(part.benchmark, name=name, problems=problems, sha256=sha256))


def store_of(request: EvalRequest, name: str) -> Path:
    """Return the file of a benchmark's samples."""
    return (request.store or request.out / "samples") / f"{name}.jsonl"


def refuse_without_samples(request: EvalRequest, benchmarks: Sequence[LoadedBenchmark]) -> None:
    """Raise RunFolderError if a benchmark has no file of samples to grade again."""
    for loaded in benchmarks:
        path = store_of(request, loaded.benchmark.name)
        if not path.is_file():
            raise RunFolderError(f"--regrade: {path}: no such file of samples; give the --out (or --store) they are in")


def refuse_other(path: Path, before: Result, loaded: LoadedBenchmark, model: ModelUnderTest, engine: Generator) -> None:
    """Raise RunFolderError if a result is of another evaluation, or of more samples."""
    benchmark = loaded.benchmark
    pairs = {
        "sha256": (before.sha256, benchmark.sha256),
        "samples": (max(before.samples, benchmark.samples), benchmark.samples),  # a result may grow to more samples
        "sampling": (before.sampling, benchmark.sampling), "weights": (before.weights, model.weights),
        "prompts": (before.prompts, prompts_digest(engine, loaded)),
        "engine": (before.provenance.get("engine"), engine.describe()),
    }  # fmt: skip
    for key, (old, new) in pairs.items():
        if old != new:
            raise RunFolderError(
                f"{path}: holds a result with {key} {old}, this one has {new}; choose another --out (--store "
                f"{path.parent.parent / 'samples'} goes on with its samples)"
            )


def other_versions(before: Result, grader: Grader, loaded: LoadedBenchmark) -> str:
    """Return a message if other versions graded a result than are installed now, else ""."""
    now = grader.versions(problem.reward for problem in loaded.problems)
    if before.verifier == now:
        return ""
    return f"{before.benchmark}: graded by {before.verifier}, here is {now}; --regrade grades its samples again"


def with_metrics(before: Result, metrics: tuple[str, ...], writer: RunWriter) -> Result:
    """Return a result under the metrics that its benchmark names now, rewritten if these are others."""
    if before.metrics == metrics:
        return before
    kept = {name: value for name, value in before.provenance.items() if name != "metrics"}
    result = replace(before, metrics=metrics, provenance={**kept, **metric_sources(metrics)})
    writer.result(result, final=True)
    return result


def verdict_changes(before: Result, after: Result) -> str:
    """Return a message that counts the verdicts that grading again changed."""
    flat = [[passed for row in result.passed for passed in row[: before.samples]] for result in (before, after)]
    pairs = list(zip(*flat, strict=True))
    gained, lost = pairs.count((False, True)), pairs.count((True, False))
    text = f"{after.benchmark}: graded again: {gained} of {len(pairs)} samples are now right, {lost} now wrong"
    if before.right_or_wrong and after.right_or_wrong:
        return text
    scores = [[score for row in result.scores for score in row[: before.samples]] for result in (before, after)]
    others = sum(old != new for old, new in zip(*scores, strict=True))
    return f"{text}; {others} scores are others, their mean {fmean(scores[1]):.3f}, it was {fmean(scores[0]):.3f}"


def eval_manifest(request: EvalRequest, target: EvalTarget, origin: Mapping[str, Json]) -> dict[str, Json]:
    """Return the manifest of an evaluation: its identity and origin."""
    threads = torch.get_num_threads()
    if request.regrade:  # samples nothing, so threads do not matter
        threads = (read_manifest(request.out) or {}).get("threads", threads)
    own = {
        "recipe_digest": eval_digest(request.recipe),
        "algorithm": request.label,
        "seed": request.seed,
        "threads": threads,
    }
    return {**origin, **own, "weights": target.weights, "engine": dict(target.engine.describe())}


def eval_digest(recipe: Recipe) -> str:
    """Return a digest of the settings that affect the samples of every benchmark.

    Settings of one benchmark are compared result by result, and each result records the versions that graded it.
    """
    model = recipe.model
    # These names are part of the digest in existing folders, so they must not change.
    named = {"path": model.path, "revision": model.revision, "template": dict(model.chat_template_kwargs)}
    parts = [named, recipe.rollout.engine, recipe.update.bf16, recipe.evaluate.server]
    # An engine of one's own draws by its own source and options; shipped ones are told as before.
    outside = {name: digest for name, digest in outside_parts(recipe).items() if name.startswith("engines: ")}
    parts += [outside, dict(recipe.rollout.engine_options)] if outside else []
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def load_benchmarks(section: EvaluateSection, data: Mapping[str, Path] | None = None) -> list[LoadedBenchmark]:
    """Load a recipe's benchmarks with the recipe's sampling, and check them against their pins. Raises DataError."""
    benchmarks: list[LoadedBenchmark] = []
    for name in section.benchmarks:
        loaded = load_benchmark(name, section.samples, data)
        if loaded.benchmark.name in (other.benchmark.name for other in benchmarks):
            raise DataError(f"benchmarks: {name}: another is called {loaded.benchmark.name!r} too; rename one of them")
        sampling = merged(loaded.benchmark.sampling, section.sampling.given, "evaluate: sampling")
        benchmarks.append(replace(loaded, benchmark=replace(loaded.benchmark, sampling=sampling)))
    return benchmarks


def result_origin(recipe: Recipe, grader: Grader) -> dict[str, Json]:
    """Return the provenance of every result: model, recipe digest, sandbox, commit, versions, machine."""
    parts = outside_parts(recipe)
    own = {"model": asdict(recipe.model), "recipe_digest": recipe.digest(None, parts), "parts": parts}
    return {**own, "sandbox": grader.sandbox, **provenance()}
