"""``archer train``: one algorithm, one seed, from the base model to a graded final model.

Read :func:`train` first: it is the table of contents of a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from archer import checkpoint
from archer.benchmark import read_benchmark
from archer.build import build_algorithm
from archer.engines.native import Native
from archer.evaluate import Exam, Examinee, evaluate, open_exam
from archer.execution import open_executor
from archer.execution.base import Executor
from archer.grading import Grader
from archer.groups import Clock, Sampler, describe, pack
from archer.journal import Journal
from archer.machine import provenance
from archer.objectives import Algorithm
from archer.policies.load import load_model
from archer.policies.torch import TorchPolicy
from archer.problems import judges_programs, open_stream
from archer.prompts import Prompts
from archer.recipe import Recipe
from archer.result import Result, read_result
from archer.sinks import Sink, open_sinks
from archer.types import Json


@dataclass(frozen=True)
class Run:
    """What to train, where to write, and how many CPU threads to use (0: torch's choice)."""

    recipe: Recipe
    algorithm: str
    seed: int
    folder: Path
    threads: int = 0
    unisolated: bool = False

    def manifest(self) -> dict[str, Json]:
        """Return the run's identity and origin."""
        return {
            "recipe": asdict(self.recipe), "recipe_digest": self.recipe.digest(), "algorithm": self.algorithm,
            "seed": self.seed, "threads": torch.get_num_threads(), **provenance(),
        }  # fmt: skip


def train(run: Run) -> None:
    """Train, checkpoint and evaluate; called again on the same folder, go on from the last checkpoint.

    Raises UserError for what the recipe asks in vain, OurError for what broke here; both leave the folder
    ready to go on.
    """
    with ExitStack() as stack:
        parts = open_parts(run, stack)
        recipe, algorithm, journal, policy = run.recipe, parts.algorithm, parts.journal, parts.policy
        step, position = parts.resume()
        while step < recipe.steps:
            clock = Clock()
            harvest = parts.sampler.harvest(position, clock)
            groups = pack(harvest.groups, algorithm, recipe.rollout.max_tokens)
            if algorithm.objective.needs_reference:
                with clock("reference"):
                    groups = policy.add_reference(groups)
            with clock("update"):
                scalars = policy.update(groups, algorithm)
            parts.engine.load(policy.version)
            position, step = harvest.position, step + 1
            with clock("evaluate"):
                scores = parts.curve(step)
            metrics = {**describe(harvest), **scalars, **scores}
            with clock("write"):
                journal.write(step - 1, metrics, *zip(*harvest.sampled, strict=True))
                if step % recipe.save.every == 0 or step == recipe.steps:
                    parts.save(step, position)
            journal.time(step - 1, clock.seconds)
            for sink in parts.sinks:
                sink.log(step - 1, metrics)
        parts.examine(recipe.steps)


def examine(
    recipe: Recipe, label: str, seed: int, out: Path, threads: int = 0, unisolated: bool = False
) -> list[Result]:
    """Evaluate the recipe's model as it is; write ``out/results/``. Benchmarks already there are not redone."""
    with ExitStack() as stack:
        if threads:
            torch.set_num_threads(threads)
        exams = [open_exam(name, recipe.evaluate.samples) for name in recipe.evaluate.benchmarks]
        executor = open_sandbox(recipe, unisolated, stack)
        model, tokenizer = load_model(recipe.model)
        engine = Native(model, tokenizer, Prompts(tokenizer, recipe.model.template), recipe.rollout.slots)
        grader = stack.enter_context(Grader(recipe.reward.workers, recipe.reward.seconds, executor))
        results = []
        for exam in exams:
            path = out / "results" / f"{exam.benchmark.name}.json"
            if not path.exists():
                evaluate(engine, grader, exam, Examinee(label, seed, 0, provenance())).write(path)
            results.append(read_result(path))
        return results


@dataclass
class Parts:
    """The parts of a run, built from its recipe."""

    run: Run
    algorithm: Algorithm
    journal: Journal
    policy: TorchPolicy
    engine: Native
    grader: Grader
    sampler: Sampler
    exams: list[Exam]
    sinks: list[Sink]

    def resume(self) -> tuple[int, int]:
        """Load the newest checkpoint, if any; return the steps done and the problem stream's position."""
        complete = checkpoint.found(self.run.folder / "checkpoints")
        if not complete:
            self.journal.rewind(0)
            return 0, 0
        state = checkpoint.load(complete[-1], self.policy.model)
        self.policy.restore(state["policy"])
        self.engine.load(self.policy.version)
        self.journal.rewind(state["step"])
        return state["step"], state["position"]

    def save(self, step: int, position: int) -> None:
        """Write a checkpoint: the moment the steps so far are done."""
        state = {"policy": self.policy.state(), "step": step, "position": position}
        folder = self.run.folder / "checkpoints"
        checkpoint.save(folder, step, self.policy.model, self.engine.tokenizer, state, self.run.recipe.save.keep)

    def curve(self, step: int) -> Mapping[str, float]:
        """Evaluate a part of every benchmark where a curve point is due; return the scores by name."""
        plan = self.run.recipe.evaluate
        if not plan.every or step % plan.every:
            return {}
        scores = {}
        for exam in self.exams:
            result = self._evaluate(exam.part(plan.curve_problems, plan.curve_samples), step)
            self.journal.result(result, final=False)
            scores[f"{result.benchmark}/avg"] = sum(map(sum, result.outcomes)) / (len(result.problems) * result.samples)
        return scores

    def examine(self, step: int) -> None:
        """Run the final evaluation, skipping benchmarks already done."""
        for exam in self.exams:
            if not (self.run.folder / "results" / f"{exam.benchmark.name}.json").exists():
                self.journal.result(self._evaluate(exam, step), final=True)

    def _evaluate(self, exam: Exam, step: int) -> Result:
        who = Examinee(self.run.algorithm, self.run.seed, step, provenance())
        return evaluate(self.engine, self.grader, exam, who)


def open_parts(run: Run, stack: ExitStack) -> Parts:
    """Build every part; what must be closed goes on ``stack``. Raises UserError before anything is written."""
    recipe = run.recipe
    if run.threads:
        torch.set_num_threads(run.threads)
    algorithm = build_algorithm(recipe, run.algorithm)
    exams = [open_exam(name, recipe.evaluate.samples) for name in recipe.evaluate.benchmarks]
    stream = open_stream(recipe.data, run.seed)
    executor = open_sandbox(recipe, run.unisolated, stack)
    model, tokenizer = load_model(recipe.model)
    updates = recipe.steps * recipe.update.epochs * -(-recipe.rollout.prompts // recipe.update.mini_batch)
    policy = TorchPolicy(model, recipe.update, updates, recipe.rollout.temperature, recipe.rollout.max_tokens)
    if algorithm.objective.needs_reference:
        policy.keep_reference()
    prompts = Prompts(tokenizer, recipe.model.template)
    engine = Native(model, tokenizer, prompts, recipe.rollout.slots, policy.autocast)
    grader = stack.enter_context(Grader(recipe.reward.workers, recipe.reward.seconds, executor))
    sampler = Sampler(engine, grader, stream, recipe.rollout, algorithm, run.seed)
    journal = Journal(run.folder, run.manifest())
    stack.callback(journal.close)
    sinks = open_sinks(recipe.log, run.folder, run.manifest(), stack)
    return Parts(run, algorithm, journal, policy, engine, grader, sampler, exams, sinks)


def open_sandbox(recipe: Recipe, unisolated: bool, stack: ExitStack) -> Executor | None:
    """Start the executor if any source or benchmark judges programs. Raises MissingError where it cannot."""
    benchmarks = [read_benchmark(name).data for name in recipe.evaluate.benchmarks]
    if not any(judges_programs(source) for source in (*recipe.data, *benchmarks)):
        return None
    executor = open_executor("process" if unisolated else recipe.reward.sandbox, recipe.reward.workers, unisolated)
    stack.callback(executor.close)
    return executor
