"""Evaluation of a model on a benchmark; training curves and tables come from its results, not from rewards."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from archer.engines.base import Completion, Generator, sample_seed
from archer.evaluation.loaded import LoadedBenchmark
from archer.evaluation.named_metrics import metric_sources
from archer.rewards.grading import Grader, RunsUnderWay
from archer.runs.samples import Samples, StoredSample, sample_key, seconds
from archer.types import Json, Problem, Request, Result

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


@dataclass(frozen=True)
class SampleSlot:
    """One sample that an evaluation needs: its problem, its index, and its key in the store."""

    problem: Problem
    sample: int
    key: str


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
    """Get K samples of every problem, sampling those missing in ``store``; grade them and return all outcomes.

    Random streams depend on the training seed: different seeds sample differently, and two algorithms with one seed
    use the same streams. Raises EngineError, SandboxError or GraderError instead of scoring a failure.
    """
    started = grader.begin()
    slots = slots_of(engine, loaded, model)
    stored_samples = draw(engine, loaded, model, slots, store, SampleListeners(started, watch or SilentWatcher()))
    completions = [
        Completion(slot.problem, slot.sample, stored.seed, stored.text, stored.tokens, stored.stop)
        for slot, stored in zip(slots, stored_samples, strict=True)
    ]
    start = time.perf_counter()
    verdicts = grader.grade(completions, started)
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


def slots_of(engine: Generator, loaded: LoadedBenchmark, model: ModelUnderTest) -> list[SampleSlot]:
    """Return every sample of a benchmark, problem by problem, with its key in the store."""
    sampling, description = loaded.benchmark.sampling, engine.describe()
    slots = []
    for problem in loaded.problems:
        prompt = engine.prompt(problem)
        for sample in range(loaded.benchmark.samples):
            seed = sample_seed(model.seed, problem.id, sample)
            slots.append(
                SampleSlot(problem, sample, sample_key(model.weights, description, prompt, sampling, seed, sample))
            )
    return slots


def draw(
    engine: Generator,
    loaded: LoadedBenchmark,
    model: ModelUnderTest,
    slots: Sequence[SampleSlot],
    store: Samples,
    listeners: SampleListeners,
) -> list[StoredSample]:
    """Return the samples of ``slots`` in order, from ``store`` or newly sampled and added to it."""
    stored_samples = store.get({slot.key for slot in slots})
    listeners.watch.begin(loaded.benchmark.name, len(stored_samples), len(slots))
    listeners.watch.say(model.doubt if stored_samples else "")
    keys = {(slot.problem.id, slot.sample): slot.key for slot in slots}

    def keep(completion: Completion) -> None:
        key = keys[completion.problem.id, completion.sample]
        stored_samples[key] = store.put(key, completion)
        listeners.started.put(completion)
        listeners.watch.see(stored_samples[key])

    engine.complete(
        requests_of([slot for slot in slots if slot.key not in stored_samples], model.seed),
        loaded.benchmark.sampling,
        keep,
    )
    return [stored_samples[slot.key] for slot in slots]


def requests_of(slots: Sequence[SampleSlot], seed: int) -> list[Request]:
    """Group slots into one request per problem."""
    samples: dict[str, list[int]] = {}
    problems = {slot.problem.id: slot.problem for slot in slots}
    for slot in slots:
        samples.setdefault(slot.problem.id, []).append(slot.sample)
    return [Request(problems[name], tuple(numbers), seed) for name, numbers in samples.items()]


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
