"""A run and its parts, built from its recipe: what :mod:`archer.train` puts in order."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from archer.algorithms import Algorithm
from archer.distributed import Ranks, join_ranks
from archer.engines import open_engine
from archer.engines.base import Engine, Generator
from archer.engines.native import context_of
from archer.engines.over_ranks import GeneratorOverRanks
from archer.engines.requests import check_width
from archer.errors import EngineError, UserError
from archer.evaluation.evaluate import ModelUnderTest, evaluate
from archer.evaluation.loaded import LoadedBenchmark
from archer.evaluation.model import load_benchmarks, open_sandbox, origin
from archer.models.loading import digest_of, load_config, load_model, load_tokenizer
from archer.models.prompts import PromptRenderer, Tokenizer
from archer.problems.streams import open_stream
from archer.recipe.algorithm import build_algorithm
from archer.recipe.sections import Recipe
from archer.rewards.grading import Grader, where_programs_ran
from archer.rollouts.collect import RolloutBatch, StepClock, StepSampler, assign_advantages
from archer.rollouts.dynamic_sampling import StreamCursor
from archer.rollouts.prefetch import Ahead, Supply, Synchronous
from archer.runs import checkpoints as checkpoint
from archer.runs.folder import NullRunWriter, RunWriter
from archer.runs.samples import SampleStore, UnstoredSamples
from archer.runs.trackers import Tracker, check_trackers, open_trackers
from archer.sandbox.base import Executor
from archer.system import cores, provenance
from archer.trainer import open_trainer
from archer.trainer.backend import Policy
from archer.trainer.batch import Group
from archer.trainer.mismatch import apply_importance_weights, check_mismatch
from archer.trainer.mismatch import measure_mismatch as describe_mismatch
from archer.types import Json

RANK_SECONDS = 1800.0  # to join the other ranks, where the recipe names no deadline
AGREED = ("recipe_digest", "algorithm", "seed", "threads", "archer", "commit", "versions")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What to train, where to write, how many CPU threads to use (0: torch's choice), and steps to profile."""

    recipe: Recipe
    algorithm: str
    seed: int
    folder: Path
    threads: int = 0
    unisolated: bool = False
    profile: int = 0

    def manifest(self) -> dict[str, Json]:
        """Return the run's identity and origin."""
        return {
            "recipe": asdict(self.recipe), "recipe_digest": self.recipe.digest(self.algorithm),
            "algorithm": self.algorithm, "seed": self.seed, "threads": torch.get_num_threads(), **provenance(),
        }  # fmt: skip


@dataclass
class Parts:
    """The parts of a run, built from its recipe."""

    run: Run
    ranks: Ranks
    algorithm: Algorithm
    journal: RunWriter
    tokenizer: Tokenizer
    policy: Policy
    engine: Engine
    grader: Grader
    executor: Executor | None
    supply: Supply
    exams: list[LoadedBenchmark]
    sinks: list[Tracker]

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.run.folder / "checkpoints"

    def resume(self) -> tuple[int, StreamCursor]:
        """Load the newest checkpoint, if any; return the steps done and where the problem stream stands."""
        complete = self.ranks.broadcast("the newest checkpoint", checkpoint.complete_checkpoints(self.checkpoints))
        if not complete:
            self.engine.load(0, self.policy.weights)  # servers may still hold those of another run
            self.journal.rewind(0)
            return 0, StreamCursor()
        state = checkpoint.load_checkpoint(complete[-1], self.policy)
        self.supply.restore(state["ahead"])
        self.engine.load(self.policy.version, self.policy.weights)
        self.journal.rewind(state["step"])
        following, left = state["queue"]
        return state["step"], StreamCursor(following, tuple(left))

    def take(self, step: int, queue: StreamCursor, clock: StepClock) -> RolloutBatch:
        """Return the step's groups. Where the engine fails, save first what no checkpoint has yet."""
        try:
            return self.supply.take(queue, clock)
        except EngineError:
            # The other ranks do not know of it: what all write together cannot be written.
            if step % self.run.recipe.save.every and self.ranks.world == 1:
                self.save(step, queue)
            raise

    def prepare(self, step: int, harvest: RolloutBatch, clock: StepClock) -> tuple[list[Group], dict[str, float]]:
        """Return the groups as they train, and how far engine and policy disagree on them.

        Raises EngineError where they disagree too far.
        """
        recipe = self.run.recipe
        groups, mismatch = (
            assign_advantages(harvest.groups, self.algorithm, recipe.rollout.max_tokens),
            dict[str, float](),
        )
        if recipe.rollout.engine != "native" or recipe.rollout.prefetch:
            with clock("score"):
                groups = self.policy.score(groups)
            mismatch = describe_mismatch(groups)
            self.heed(step, mismatch)  # before it is trained on
            groups = apply_importance_weights(groups, recipe.rollout.correction)
        if self.algorithm.objective.needs_reference:
            with clock("reference"):
                groups = self.policy.add_reference(groups, self.algorithm)
        return groups, mismatch

    def heed(self, step: int, metrics: Mapping[str, float]) -> None:
        """Warn where engine and policy disagree. Raises EngineError where they do too far."""
        warning = check_mismatch(metrics, self.run.recipe.rollout.correction, step)
        if warning and self.ranks.main:
            logger.warning(warning)

    def save(self, step: int, queue: StreamCursor) -> None:
        """Write a checkpoint: the moment the steps so far are done."""
        state = {"step": step, "queue": (queue.next, queue.left), "ahead": self.supply.state()}
        keep = self.run.recipe.save.keep
        checkpoint.save_checkpoint(self.checkpoints, step, self.policy, self.tokenizer, state, keep, self.ranks)

    def curve(self, step: int) -> Mapping[str, float]:
        """Evaluate a part of every benchmark where a curve point is due; return the scores by name."""
        plan = self.run.recipe.evaluate.during_training
        if not plan.every or step % plan.every:
            return {}
        parts = [exam.part(plan.problems, plan.samples) for exam in self.exams]
        return GeneratorOverRanks(self.engine, self.ranks).lead(lambda engine: self._points(engine, parts, step)) or {}

    def _points(self, engine: Generator, parts: Sequence[LoadedBenchmark], step: int) -> dict[str, float]:
        scores = {}
        for part in parts:
            result = evaluate(engine, self.grader, part, self._who(step, ""), UnstoredSamples())
            self.journal.result(result, final=False)
            scores[f"{result.benchmark}/avg"] = sum(map(sum, result.outcomes)) / (len(result.problems) * result.samples)
        return scores

    def examine(self, step: int) -> None:
        """Run the final evaluation, skipping benchmarks already done; its samples stay in ``samples/``."""
        GeneratorOverRanks(self.engine, self.ranks).lead(lambda engine: self._finals(engine, step))

    def _finals(self, engine: Generator, step: int) -> None:
        left = [exam for exam in self.exams if not self.journal.has(exam.benchmark.name)]
        if not left:
            return
        who = self._who(step, digest_of(checkpoint.complete_checkpoints(self.checkpoints)[-1]))
        made = {**provenance(), "engine": engine.describe()}
        for exam in left:
            with SampleStore(self.run.folder / "samples" / f"{exam.benchmark.name}.jsonl", made) as store:
                self.journal.result(evaluate(engine, self.grader, exam, who, store), final=True)

    def _who(self, step: int, weights: str) -> ModelUnderTest:
        return ModelUnderTest(self.run.algorithm, self.run.seed, step, origin(self.run.recipe, self.executor), weights)


def open_parts(run: Run, stack: ExitStack) -> Parts:
    """Build every part; what must be closed goes on ``stack``. Raises UserError before anything is written."""
    recipe = run.recipe
    if run.threads:
        torch.set_num_threads(run.threads)
    algorithm = build_algorithm(recipe, run.algorithm)
    exams = preflight(recipe)
    ranks = join_ranks(recipe.update.deepspeed.seconds if recipe.update.deepspeed else RANK_SECONDS, stack)
    recipe = among(recipe, ranks)
    stream = open_stream(recipe.data, run.seed)
    sources = [*recipe.data, *(exam.benchmark.data for exam in exams)]
    executor = open_sandbox(recipe, sources, run.unisolated, stack)
    manifest = {**run.manifest(), "ranks": ranks.world, "sandbox": where_programs_ran(executor)}
    ranks.agree("a run", {key: manifest[key] for key in AGREED}, "start the same command on every rank")
    # DeepSpeed moves the weights to its GPU itself, narrowed: in float32 those of a large model do not fit there.
    model, tokenizer = load_model(recipe.model, torch.device("cpu") if recipe.update.deepspeed else None)
    policy = open_trainer(recipe, model, ranks, run.seed)
    if algorithm.objective.needs_reference:
        policy.keep_reference()
    engine = open_engine(recipe, model if samples_policy(recipe) else None, tokenizer, ranks)
    stack.callback(engine.close)
    grader = stack.enter_context(Grader(recipe.reward.workers, recipe.reward.seconds, executor))
    sampler = StepSampler(engine, grader, stream, recipe.rollout, algorithm, run.seed, recipe.reward.tests, ranks)
    supply = Ahead(sampler) if recipe.rollout.prefetch else Synchronous(sampler)
    journal = RunWriter(run.folder, manifest) if ranks.main else NullRunWriter(run.folder)
    stack.callback(journal.close)
    sinks = open_trackers(recipe.log, run.folder, manifest, stack) if ranks.main else []
    if run.profile and ranks.main:
        from archer.tools.profiling import open_profile  # what it counts with is slow to load

        sinks.append(open_profile(recipe, run.profile, run.folder, policy, engine, ranks, stack))
    return Parts(run, ranks, algorithm, journal, tokenizer, policy, engine, grader, executor, supply, exams, sinks)


def among(recipe: Recipe, ranks: Ranks) -> Recipe:
    """Return the recipe with the machine's cores divided among the ranks that grade on it."""
    if ranks.world == 1 or recipe.reward.workers:
        return recipe
    return replace(recipe, reward=replace(recipe.reward, workers=max(1, cores() // ranks.local_world_size)))


def samples_policy(recipe: Recipe) -> bool:
    """Say whether the native engine may sample from the policy's own module: it is whole, and at rest meanwhile."""
    sharded = recipe.update.deepspeed is not None and recipe.update.deepspeed.stage == 3
    return not sharded and not recipe.rollout.prefetch


def preflight(recipe: Recipe) -> list[LoadedBenchmark]:
    """Find what would end a run later: data, benchmarks, chat template, context, packages; return the exams.

    Raises UserError. Loads no weights. Of the training data it looks at one step's worth of prompts.
    """
    if recipe.evaluate.server:
        raise UserError(
            f"evaluate.server: {recipe.evaluate.server} answers with its own weights, not with those of the run; leave "
            "it out to train, and evaluate the finished model with `archer eval --server`"
        )
    check_trackers(recipe.log)
    exams = load_benchmarks(recipe)
    prompts = PromptRenderer(load_tokenizer(recipe.model), recipe.model.chat_template_kwargs)
    context = context_of(load_config(recipe.model), recipe.model.context)
    asked = [(recipe.rollout.max_tokens, open_stream(recipe.data, 0).take(0, recipe.rollout.prompts))]
    asked += [(exam.benchmark.sampling.max_tokens, list(exam.problems)) for exam in exams]
    for max_tokens, problems in asked:
        longest = max(problems, key=lambda problem: len(prompts.encode(problem)))
        check_width(longest.id, len(prompts.encode(longest)), max_tokens, context)
    return exams
