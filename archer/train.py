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
from archer.build import build_algorithm
from archer.engines import open_engine
from archer.engines.native import Native, check_width, context_of
from archer.errors import UserError
from archer.evaluate import Examinee, evaluate
from archer.examine import open_exams, open_sandbox, origin
from archer.exams import Exam
from archer.execution.base import Executor
from archer.grading import Grader, where_programs_ran
from archer.groups import Clock, Sampler, describe, pack
from archer.journal import Journal
from archer.machine import provenance
from archer.objectives import Algorithm
from archer.policies.load import digest_of, load_config, load_model, load_tokenizer
from archer.policies.torch import TorchPolicy
from archer.problems import open_stream
from archer.prompts import Prompts
from archer.recipe import Recipe
from archer.sinks import Sink, check_sinks, open_sinks
from archer.store import Scratch, Store
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
            "recipe": asdict(self.recipe), "recipe_digest": self.recipe.digest(self.algorithm),
            "algorithm": self.algorithm, "seed": self.seed, "threads": torch.get_num_threads(), **provenance(),
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


@dataclass
class Parts:
    """The parts of a run, built from its recipe."""

    run: Run
    algorithm: Algorithm
    journal: Journal
    policy: TorchPolicy
    engine: Native
    grader: Grader
    executor: Executor | None
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
            part = exam.part(plan.curve_problems, plan.curve_samples)
            result = evaluate(self.engine, self.grader, part, self._who(step, ""), Scratch())
            self.journal.result(result, final=False)
            scores[f"{result.benchmark}/avg"] = sum(map(sum, result.outcomes)) / (len(result.problems) * result.samples)
        return scores

    def examine(self, step: int) -> None:
        """Run the final evaluation, skipping benchmarks already done; its samples stay in ``samples/``."""
        left = [exam for exam in self.exams if not self.journal.has(exam.benchmark.name)]
        if not left:
            return
        who = self._who(step, digest_of(checkpoint.found(self.run.folder / "checkpoints")[-1]))
        made = {**provenance(), "engine": self.engine.describe()}
        for exam in left:
            with Store(self.run.folder / "samples" / f"{exam.benchmark.name}.jsonl", made) as store:
                self.journal.result(evaluate(self.engine, self.grader, exam, who, store), final=True)

    def _who(self, step: int, weights: str) -> Examinee:
        return Examinee(self.run.algorithm, self.run.seed, step, origin(self.run.recipe, self.executor), weights)


def open_parts(run: Run, stack: ExitStack) -> Parts:
    """Build every part; what must be closed goes on ``stack``. Raises UserError before anything is written."""
    recipe = run.recipe
    if run.threads:
        torch.set_num_threads(run.threads)
    algorithm = build_algorithm(recipe, run.algorithm)
    exams = preflight(recipe)
    stream = open_stream(recipe.data, run.seed)
    sources = [*recipe.data, *(exam.benchmark.data for exam in exams)]
    executor = open_sandbox(recipe, sources, run.unisolated, stack)
    model, tokenizer = load_model(recipe.model)
    updates = recipe.steps * recipe.update.epochs * -(-recipe.rollout.prompts // recipe.update.mini_batch)
    policy = TorchPolicy(model, recipe.update, updates, recipe.rollout.temperature, recipe.rollout.max_tokens)
    if algorithm.objective.needs_reference:
        policy.keep_reference()
    engine = open_engine(recipe, model, tokenizer)
    grader = stack.enter_context(Grader(recipe.reward.workers, recipe.reward.seconds, executor))
    sampler = Sampler(engine, grader, stream, recipe.rollout, algorithm, run.seed, recipe.reward.tests)
    manifest = {**run.manifest(), "sandbox": where_programs_ran(executor)}
    journal = Journal(run.folder, manifest)
    stack.callback(journal.close)
    sinks = open_sinks(recipe.log, run.folder, manifest, stack)
    return Parts(run, algorithm, journal, policy, engine, grader, executor, sampler, exams, sinks)


def preflight(recipe: Recipe) -> list[Exam]:
    """Find what would end a run later: data, benchmarks, chat template, context, packages; return the exams.

    Raises UserError. Loads no weights. Of the training data it looks at one step's worth of prompts.
    """
    if recipe.evaluate.server:
        raise UserError(
            f"evaluate.server: {recipe.evaluate.server} answers with its own weights, not with those of the run; leave "
            "it out to train, and evaluate the finished model with `archer eval --server`"
        )
    check_sinks(recipe.log)
    exams = open_exams(recipe)
    prompts = Prompts(load_tokenizer(recipe.model), recipe.model.template)
    context = context_of(load_config(recipe.model), recipe.model.context)
    asked = [(recipe.rollout.max_tokens, open_stream(recipe.data, 0).take(0, recipe.rollout.prompts))]
    asked += [(exam.benchmark.sampling.max_tokens, list(exam.problems)) for exam in exams]
    for max_tokens, problems in asked:
        longest = max(problems, key=lambda problem: len(prompts.encode(problem)))
        check_width(longest.id, len(prompts.encode(longest)), max_tokens, context)
    return exams
