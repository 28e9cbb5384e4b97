"""Evaluation: engine x benchmark -> result. Training curves and tables come from here, never from the reward."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from archer.engines.base import Completion, Generator, sample_seed
from archer.evaluation.loaded import LoadedBenchmark
from archer.rewards.grading import Grader, RunsUnderWay
from archer.runs.samples import Samples, StoredSample, sample_key, seconds
from archer.types import Json, Problem, Request, Result

T = TypeVar("T")
LONGEST_ANSWER = 100  # characters of an answer that a result keeps: enough to vote with, and to look at


@dataclass(frozen=True)
class ModelUnderTest:
    """Who is examined: a table's row, the training seed, the steps behind the weights, their sha256 and origin.

    ``doubt`` is what to say where stored samples are taken that may be another's.
    """

    label: str
    seed: int
    step: int
    provenance: Mapping[str, Json]
    weights: str = ""
    doubt: str = ""


@dataclass(frozen=True)
class SampleSlot:
    """One sample to be had: of which problem, which of its samples, and the store's name for it."""

    problem: Problem
    sample: int
    key: str


class EvalWatcher(Protocol):
    """Who watches an evaluation."""

    def begin(self, benchmark: str, stored: int, total: int) -> None:
        """Hear how many samples there are to be, and how many are there already."""
        ...

    def see(self, kept: StoredSample) -> None:
        """Hear of a sample that was drawn."""
        ...

    def say(self, text: str) -> None:
        """Hear what the user should know; nothing to know is empty."""
        ...


class SilentWatcher:
    """The :class:`EvalWatcher` of an evaluation within a training run."""

    def begin(self, benchmark: str, stored: int, total: int) -> None: ...
    def see(self, kept: StoredSample) -> None: ...
    def say(self, text: str) -> None: ...


@dataclass(frozen=True)
class SampleListeners:
    """What is told of a fresh sample: the grader, which may run its program at once, and who watches."""

    started: RunsUnderWay
    watch: EvalWatcher


def evaluate(
    engine: Generator,
    grader: Grader,
    exam: LoadedBenchmark,
    who: ModelUnderTest,
    store: Samples,
    watch: EvalWatcher | None = None,
) -> Result:
    """Have K samples of every problem, drawing what ``store`` lacks, grade them, return all outcomes.

    The samples' random streams depend on the training seed, so seeds differ in their draws too, and two
    algorithms with one seed share them. Raises EngineError, SandboxError and GraderError: never a score.
    """
    started = grader.begin()
    slots = slots_of(engine, exam, who)
    kept = draw(engine, exam, who, slots, store, SampleListeners(started, watch or SilentWatcher()))
    answers = [
        Completion(slot.problem, slot.sample, one.seed, one.text, one.tokens, one.stop)
        for slot, one in zip(slots, kept, strict=True)
    ]
    start = time.perf_counter()
    verdicts = grader.grade(answers, started)
    graded = time.perf_counter() - start
    benchmark, samples = exam.benchmark, exam.benchmark.samples
    return Result(
        label=who.label, seed=who.seed, step=who.step, benchmark=benchmark.name, sha256=benchmark.sha256,
        sampling=benchmark.sampling, problems=tuple(problem.id for problem in exam.problems),
        outcomes=by_problem([verdict.correct for verdict in verdicts], samples),
        reasons=by_problem([verdict.reason for verdict in verdicts], samples),
        stops=by_problem([one.stop for one in kept], samples),
        tokens=by_problem([one.tokens for one in kept], samples),
        answers=by_problem([verdict.answer[:LONGEST_ANSWER] for verdict in verdicts], samples),
        clusters=noted(exam.problems, "cluster"), dates=noted(exam.problems, "date"),
        weights=who.weights, prompts=prompts_digest(engine, exam),
        verifier=grader.versions(problem.reward for problem in exam.problems),
        seconds=seconds(kept) + graded,
        provenance={**who.provenance, "engine": engine.describe(), "drawn_by": store.origins(kept)},
    )  # fmt: skip


def slots_of(engine: Generator, exam: LoadedBenchmark, who: ModelUnderTest) -> list[SampleSlot]:
    """Return every sample of an exam, problem by problem, each under the name that a store knows it by."""
    sampling, description = exam.benchmark.sampling, engine.describe()
    found = []
    for problem in exam.problems:
        prompt = engine.prompt(problem)
        for sample in range(exam.benchmark.samples):
            seed = sample_seed(who.seed, problem.id, sample)
            found.append(
                SampleSlot(problem, sample, sample_key(who.weights, description, prompt, sampling, seed, sample))
            )
    return found


def draw(
    engine: Generator,
    exam: LoadedBenchmark,
    who: ModelUnderTest,
    slots: Sequence[SampleSlot],
    store: Samples,
    hear: SampleListeners,
) -> list[StoredSample]:
    """Return the samples of ``slots`` in order: those of ``store`` as they are, the rest drawn and put there."""
    kept = store.get({slot.key for slot in slots})
    hear.watch.begin(exam.benchmark.name, len(kept), len(slots))
    hear.watch.say(who.doubt if kept else "")
    names = {(slot.problem.id, slot.sample): slot.key for slot in slots}

    def keep(answer: Completion) -> None:
        name = names[answer.problem.id, answer.sample]
        kept[name] = store.put(name, answer)
        hear.started.put(answer)
        hear.watch.see(kept[name])

    engine.complete(asks([slot for slot in slots if slot.key not in kept], who.seed), exam.benchmark.sampling, keep)
    return [kept[slot.key] for slot in slots]


def asks(slots: Sequence[SampleSlot], seed: int) -> list[Request]:
    """Gather slots into one request a problem."""
    samples: dict[str, list[int]] = {}
    problems = {slot.problem.id: slot.problem for slot in slots}
    for slot in slots:
        samples.setdefault(slot.problem.id, []).append(slot.sample)
    return [Request(problems[name], tuple(numbers), seed) for name, numbers in samples.items()]


def prompts_digest(engine: Generator, exam: LoadedBenchmark) -> str:
    """Return the sha256 of all that the model is given, problem by problem."""
    prompts = [engine.prompt(problem) for problem in exam.problems]
    return hashlib.sha256(json.dumps(prompts, sort_keys=True).encode()).hexdigest()


def noted(problems: Sequence[Problem], name: str) -> tuple[str, ...]:
    """Return a note of every problem, empty strings where it has none; nothing at all where none has."""
    notes = tuple(str(problem.meta.get(name) or "") for problem in problems)
    return notes if any(notes) else ()


def by_problem(flat: Sequence[T], samples: int) -> tuple[tuple[T, ...], ...]:
    """Cut a flat list of samples into one tuple a problem."""
    return tuple(tuple(flat[start : start + samples]) for start in range(0, len(flat), samples))
