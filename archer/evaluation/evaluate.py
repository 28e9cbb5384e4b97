"""Evaluation of a model on a benchmark; training curves and tables come from its results, not from rewards."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from archer.engines.base import Generator, seed_of
from archer.engines.queue import FixedQueue, closed_after
from archer.evaluation.loaded import LoadedBenchmark
from archer.evaluation.named_metrics import metric_sources
from archer.rewards.grading import Grader, RunsUnderWay
from archer.runs.samples import Samples, StoredSample, sample_key, seconds
from archer.types import Json, Problem, Request, Result, Rollout

T = TypeVar("T")
LONGEST_ANSWER = 100  # characters of an answer kept in a result: enough for voting and for reading


@dataclass(frozen=True)
class ModelUnderTest:
    """The model that an evaluation is about.

    - ``label``: its row in tables
    - ``seed``: the training seed, which also seeds the samples
    - ``step``: training steps behind the weights
    - ``provenance``: origin, recorded in the result
    - ``weights``: sha256 of the weights
    - ``doubt``: warning to print if stored samples are used that may be another model's
    """

    label: str
    seed: int
    step: int
    provenance: Mapping[str, Json]
    weights: str = ""
    doubt: str = ""


class EvalWatcher(Protocol):
    """Receives the progress of an evaluation."""

    def begin(self, benchmark: str, stored: int, total: int) -> None:
        """Start a benchmark of ``total`` samples, ``stored`` of which exist already."""
        ...

    def see(self, kept: StoredSample) -> None:
        """Report a newly sampled response."""
        ...

    def say(self, text: str) -> None:
        """Show a message to the user; "" is no message."""
        ...


class SilentWatcher:
    """An :class:`EvalWatcher` that shows nothing, for evaluations during training."""

    def begin(self, benchmark: str, stored: int, total: int) -> None: ...
    def see(self, kept: StoredSample) -> None: ...
    def say(self, text: str) -> None: ...


@dataclass(frozen=True)
class SampleListeners:
    """The receivers of a new sample: the grader, which may run its program at once, and the watcher."""

    started: RunsUnderWay
    watch: EvalWatcher


def evaluate(
    engine: Generator,
    grader: Grader,
    loaded: LoadedBenchmark,
    model: ModelUnderTest,
    store: Samples,
    watch: EvalWatcher | None = None,
) -> Result:
    """Get K samples of every problem, sampling those missing in ``store``; grade them and return the result.

    Random streams depend on the training seed: different seeds sample differently, and two algorithms with one seed
    use the same streams. Raises EngineError, SandboxError or GraderError instead of scoring a failure.
    """
    started = grader.begin()
    wanted = requests_of(engine, loaded, model)
    stored_samples = draw(engine, loaded, model, wanted, store, SampleListeners(started, watch or SilentWatcher()))
    rollouts = [
        Rollout.of_text(request.problem, stored.text, stored.stop, sample=request.sample, counted=stored.tokens)
        for request, stored in zip(wanted.values(), stored_samples, strict=True)
    ]
    start = time.perf_counter()
    verdicts = grader.grade(rollouts, started)
    graded = time.perf_counter() - start
    benchmark, samples = loaded.benchmark, loaded.benchmark.samples
    return Result(
        label=model.label, seed=model.seed, step=model.step, benchmark=benchmark.name, sha256=benchmark.sha256,
        sampling=benchmark.sampling, problems=tuple(problem.id for problem in loaded.problems),
        passed=by_problem([verdict.passed for verdict in verdicts], samples),
        scores=by_problem([float(verdict.score) for verdict in verdicts], samples), metrics=benchmark.metrics,
        reasons=by_problem([verdict.reason for verdict in verdicts], samples),
        stops=by_problem([stored.stop for stored in stored_samples], samples),
        tokens=by_problem([stored.tokens for stored in stored_samples], samples),
        answers=by_problem([verdict.answer[:LONGEST_ANSWER] for verdict in verdicts], samples),
        clusters=noted(loaded.problems, "cluster"), dates=noted(loaded.problems, "date"),
        weights=model.weights, prompts=prompts_digest(engine, loaded),
        verifier=grader.versions(problem.reward for problem in loaded.problems),
        seconds=seconds(stored_samples) + graded,
        provenance={**model.provenance, "engine": engine.describe(), "drawn_by": store.origins(stored_samples),
                    **metric_sources(benchmark.metrics)},
    )  # fmt: skip


def requests_of(engine: Generator, loaded: LoadedBenchmark, model: ModelUnderTest) -> dict[str, Request]:
    """Return a request for every sample of a benchmark, problem by problem, by its key in the store."""
    sampling, description = loaded.benchmark.sampling, engine.describe()
    requests = {}
    for problem in loaded.problems:
        prompt = engine.prompt(problem)
        for sample in range(loaded.benchmark.samples):
            request = Request(problem, sample, model.seed)
            key = sample_key(model.weights, description, prompt, sampling, seed_of(request), sample)
            requests[key] = request
    return requests


def draw(
    engine: Generator,
    loaded: LoadedBenchmark,
    model: ModelUnderTest,
    wanted: Mapping[str, Request],
    store: Samples,
    listeners: SampleListeners,
) -> list[StoredSample]:
    """Return the samples ``wanted`` in order, from ``store`` or newly sampled and added to it."""
    stored_samples = store.get(wanted.keys())
    listeners.watch.begin(loaded.benchmark.name, len(stored_samples), len(wanted))
    listeners.watch.say(model.doubt if stored_samples else "")
    keys = {(request.problem.id, request.sample): key for key, request in wanted.items()}
    missing = FixedQueue([request for key, request in wanted.items() if key not in stored_samples], logps=False)
    with closed_after(engine.generate(missing, loaded.benchmark.sampling)) as rollouts:
        for rollout in rollouts:
            key = keys[rollout.problem.id, rollout.sample]
            stored_samples[key] = store.put(key, rollout)
            # Another rank's rollout has a copy of the problem, whose program would run once more when all are graded.
            listeners.started.put(replace(rollout, problem=wanted[key].problem))
            listeners.watch.see(stored_samples[key])
    return [stored_samples[key] for key in wanted]


def prompts_digest(engine: Generator, loaded: LoadedBenchmark) -> str:
    """Return the sha256 of the model's inputs for all problems."""
    prompts = [engine.prompt(problem) for problem in loaded.problems]
    return hashlib.sha256(json.dumps(prompts, sort_keys=True).encode()).hexdigest()


def noted(problems: Sequence[Problem], name: str) -> tuple[str, ...]:
    """Return ``meta[name]`` of every problem, "" where it is missing; () if no problem has it."""
    notes = tuple(str(problem.meta.get(name) or "") for problem in problems)
    return notes if any(notes) else ()


def by_problem(flat: Sequence[T], samples: int) -> tuple[tuple[T, ...], ...]:
    """Split a flat list of values into one tuple per problem, of ``samples`` values each."""
    return tuple(tuple(flat[start : start + samples]) for start in range(0, len(flat), samples))
