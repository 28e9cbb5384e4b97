"""``archer train``: one algorithm, one seed, from the base model to an evaluated final model.

:func:`run_steps` is the table of contents of a step; :func:`open_run` builds its parts.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch

from archer.algorithms import Algorithm
from archer.distributed import Ranks, join_ranks
from archer.engines import open_engine
from archer.engines.base import Generator
from archer.engines.over_ranks import GeneratorOverRanks
from archer.errors import EngineError, JudgeError, UserError
from archer.evaluation.evaluate import ModelUnderTest, evaluate
from archer.evaluation.loaded import LoadedBenchmark
from archer.evaluation.model import result_origin
from archer.models.loading import digest_of
from archer.parts import given_parts
from archer.recipe.reading import as_recipe
from archer.recipe.sections import Recipe, RewardSection
from archer.rewards.grading import Grader
from archer.rewards.opening import open_grader
from archer.rewards.usage import SECONDS
from archer.rollouts.advantages import assign_advantages
from archer.rollouts.collect import RolloutBatch, StepClock, StepSampler, rollout_metrics
from archer.rollouts.dynamic_sampling import StreamCursor
from archer.rollouts.prefetch import RolloutSource
from archer.runs.checkpoints import complete_checkpoints, load_checkpoint, save_checkpoint
from archer.runs.folder import RunWriter
from archer.runs.loaded import LoadedRun
from archer.runs.outside import outside_parts
from archer.runs.progress import TrainProgress
from archer.runs.samples import SampleStore, UnstoredSamples
from archer.runs.trackers import Tracker, open_trackers
from archer.spec import RunSpec, resolve
from archer.system import cores, provenance
from archer.terminal import terminal
from archer.trainer import Trainer, open_trainer
from archer.trainer.batch import Group
from archer.trainer.mismatch import apply_importance_weights, check_mismatch, measure_mismatch
from archer.types import Json

RANK_SECONDS = 1800.0  # to join the other ranks, where the recipe names no deadline
AGREED = ("parts", "recipe_digest", "algorithm", "seed", "threads", "archer", "commit", "versions")
CUSTOM = "custom"  # the name of an algorithm that is given as an object
Parts = Mapping[str, Mapping[str, object]]  # objects by kind and name
T = TypeVar("T")
logger = logging.getLogger(__name__)


def train(
    recipe: str | Path | Recipe = "lab", algorithm: str | Algorithm = "", seed: int = 0,
    out: str | Path | None = None, *, changes: Sequence[str] = (), parts: Parts | None = None, threads: int = 0,
    allow_unisolated: bool = False, profile: int = 0,
) -> LoadedRun:  # fmt: skip
    """Train one algorithm with one seed, evaluate the final model, and return the run's metrics and results.

    ``recipe`` is a shipped recipe's name, a YAML file or a :class:`~archer.recipe.sections.Recipe`; ``changes`` are
    ``key.key=value`` strings as of ``--set``. ``algorithm`` may be left out where the recipe has one; an
    :class:`~archer.algorithms.Algorithm` is trained under the name ``custom``. ``parts`` are objects that the recipe
    names, by kind and name: ``{"rewards": {"mine": MyReward()}}`` with ``reward: mine``; their sources' sha256 is part
    of the run's identity. ``out`` is the run folder (None: ``runs/RECIPE/ALGORITHM/seed-SEED``): called again on the
    same folder, an unfinished run goes on from its last checkpoint, bitwise as if it had not stopped. ``threads`` of
    the CPU (0: torch's choice); ``allow_unisolated`` accepts programs run without a sandbox; ``profile`` measures so
    many steps.

    Under torchrun every rank calls this; rank 0 writes. Raises UserError if the recipe cannot be satisfied on this
    machine, OurError for what broke here; both leave the folder ready to go on.
    """
    if not isinstance(algorithm, str | Algorithm):
        raise UserError(f"algorithm: expected a name or an Algorithm, as Algorithm({algorithm!r}) makes one")
    given = {kind: dict(named) for kind, named in (parts or {}).items()}
    if isinstance(algorithm, Algorithm):
        given.setdefault("algorithms", {})[CUSTOM] = algorithm
    with given_parts(given):
        name = CUSTOM if isinstance(algorithm, Algorithm) else algorithm
        spec = resolve(as_recipe(recipe, changes), name, seed)
        folder = Path(out) if out else Path("runs") / spec.recipe.name / spec.name / f"seed-{seed}"
        run_steps(spec, folder, RunOptions(threads, allow_unisolated, profile))
    return LoadedRun(folder)  # on every rank: the others need not see what the first one wrote


@dataclass(frozen=True)
class RunOptions:
    """What of a run is the machine's affair."""

    threads: int = 0
    """CPU threads; 0: torch's choice."""
    unisolated: bool = False
    """Whether programs may run without isolation."""
    profile: int = 0
    """Steps to measure after the first."""


def run_steps(spec: RunSpec, folder: Path, options: RunOptions = RunOptions()) -> None:
    """Train, checkpoint and evaluate in ``folder``; called again, go on from the last checkpoint."""
    with open_run(spec, folder, options) as run:
        state = run.restore()
        for step in range(state.step, spec.steps):
            clock = run.begin(step)
            batch = run.next_batch(state, clock)
            samples, metrics = run.prepare(step, batch, clock)
            with clock("update"):
                metrics |= run.trainer.update(samples, spec.algorithm)
            run.check_update(step, metrics)
            run.rollouts.load_weights(run.trainer.version, run.trainer.weights, clock)
            metrics |= run.evaluate_if_due(step + 1, clock)
            state = TrainState(step + 1, batch.cursor)
            run.record(state, batch, metrics, clock)
        run.evaluate_final()


@dataclass(frozen=True)
class TrainState:
    """Training steps done, and where the problem stream stands."""

    step: int = 0
    cursor: StreamCursor = field(default_factory=StreamCursor)


@dataclass
class Run:
    """The parts of a run, and what the loop does with them."""

    spec: RunSpec
    folder: Path
    ranks: Ranks
    trainer: Trainer
    rollouts: RolloutSource
    grader: Grader
    writer: RunWriter | None
    """None on all ranks but the first."""
    trackers: Sequence[Tracker]
    progress: TrainProgress

    def restore(self) -> TrainState:
        """Load the newest checkpoint, if any, and return where it stands."""
        found = self.ranks.broadcast("the newest checkpoint", complete_checkpoints(self.checkpoints))
        state = TrainState()
        if found:
            saved = load_checkpoint(found[-1], self.trainer)
            self.rollouts.restore(saved["ahead"])
            following, left = saved["queue"]
            state = TrainState(saved["step"], StreamCursor(following, tuple(left)))
        # Servers may still hold the weights of another run.
        self.rollouts.sampler.engine.load(self.trainer.version, self.trainer.weights)
        if self.writer:
            self.writer.rewind(state.step)
        return state

    def begin(self, step: int) -> StepClock:
        """Return the clock of a step, and tell the other ranks where this one is."""
        self.ranks.where = f"step {step}"
        return StepClock()

    def next_batch(self, state: TrainState, clock: StepClock) -> RolloutBatch:
        """Return the step's rollouts. Where the engine or a judge fails, first save what no checkpoint has yet."""
        try:
            return self.rollouts.next(state.cursor, clock, more=state.step + 1 < self.spec.steps)
        except (EngineError, JudgeError):
            # The other ranks do not know of it: what all write together cannot be written.
            if state.step % self.spec.recipe.save.every and self.ranks.world == 1:
                self.save(state)
            raise

    def prepare(self, step: int, batch: RolloutBatch, clock: StepClock) -> tuple[list[Group], dict[str, float]]:
        """Return the groups as they train (advantages, policy's and reference's log-probs), and the step's metrics.

        Raises EngineError where engine and policy disagree too far: before anything is trained on.
        """
        spec, rollout = self.spec, self.spec.recipe.rollout
        groups = assign_advantages(batch.groups, spec.algorithm, rollout.max_tokens)
        metrics = {**rollout_metrics(batch, self.trainer.version), **self.judge_usage()}
        if spec.engine_differs:
            with clock("score"):
                groups = self.trainer.score(groups)
            mismatch = measure_mismatch(groups)
            self.check_mismatch(step, mismatch)
            groups, metrics = apply_importance_weights(groups, rollout.correction), {**metrics, **mismatch}
        if spec.algorithm.needs_reference:
            with clock("reference"):
                groups = self.trainer.add_reference(groups, spec.algorithm)
        return groups, metrics

    def judge_usage(self) -> dict[str, float]:
        """Return what all ranks together asked of judges since the last call, as metrics."""
        if not self.grader.counted:
            return {}
        total: Counter[str] = Counter()
        for usage in self.ranks.gather("counting what judges were asked", self.grader.usage()):
            total.update(usage)
        return dict(total)

    def check_update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Check the engine against the policy's first pass, where :meth:`prepare` made no pass of its own."""
        if not self.spec.engine_differs:
            self.check_mismatch(step, metrics)

    def check_mismatch(self, step: int, metrics: Mapping[str, float]) -> None:
        """Warn where engine and policy disagree on sampled tokens. Raises EngineError where they do too far."""
        warning = check_mismatch(metrics, self.spec.recipe.rollout.correction, step)
        if warning and self.ranks.main:
            logger.warning(warning)

    def evaluate_if_due(self, step: int, clock: StepClock) -> Mapping[str, float]:
        """Evaluate the first problems of every benchmark after steps that have a point in the curves."""
        section = self.spec.recipe.evaluate.during_training
        with clock("evaluate"):
            if not section.every or step % section.every:
                return {}
            parts = [loaded.part(section.problems, section.samples) for loaded in self.spec.benchmarks]
            return self._over_ranks(lambda engine: self._points(engine, parts, step)) or {}

    def record(self, state: TrainState, batch: RolloutBatch, metrics: Mapping[str, float], clock: StepClock) -> None:
        """Write the step's rollouts and metrics, a checkpoint where one is due, and tell the trackers."""
        step, save = state.step, self.spec.recipe.save
        with clock("write"):
            if self.writer:
                repeated = {name: value for name, value in metrics.items() if name != SECONDS}
                self.writer.write(step - 1, repeated, batch.sampled)
            if step % save.every == 0 or step == self.spec.steps:
                self.save(state)
        if self.writer:
            self.writer.time(step - 1, clock.seconds)
        for tracker in self.trackers:
            tracker.log(step - 1, metrics)
        self.progress.step(step, metrics, sum(clock.seconds.values()))

    def save(self, state: TrainState) -> None:
        """Write a checkpoint: its rename is the moment that the steps so far are done."""
        saved = {
            "step": state.step, "queue": (state.cursor.next, state.cursor.left), "ahead": self.rollouts.state(),
        }  # fmt: skip
        keep, tokenizer = self.spec.recipe.save.keep, self.spec.engine.model.tokenizer
        save_checkpoint(self.checkpoints, state.step, self.trainer, tokenizer, saved, keep, self.ranks)

    def evaluate_final(self) -> None:
        """Evaluate the final model on the benchmarks that have no result yet; their samples stay in ``samples/``."""
        self._over_ranks(self._finals)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.folder / "checkpoints"

    def _points(self, engine: Generator, parts: Sequence[LoadedBenchmark], step: int) -> dict[str, float]:
        scores = {}
        for part in parts:
            result = evaluate(engine, self.grader, part, self._model(step, ""), UnstoredSamples())
            self._recorded.result(result, final=False)
            scores[f"{result.benchmark}/avg"] = sum(map(sum, result.scores)) / (len(result.problems) * result.samples)
        return scores

    def _finals(self, engine: Generator) -> None:
        left = [loaded for loaded in self.spec.benchmarks if not self._recorded.has(loaded.benchmark.name)]
        if not left:
            return
        model = self._model(self.spec.steps, digest_of(complete_checkpoints(self.checkpoints)[-1]))
        made = {**provenance(), "engine": engine.describe()}
        for loaded in left:
            with SampleStore(self.folder / "samples" / f"{loaded.benchmark.name}.jsonl", made) as store:
                result = evaluate(engine, self.grader, loaded, model, store, self.progress)
                self._recorded.result(result, final=True)

    def _over_ranks(self, work: Callable[[Generator], T]) -> T | None:
        """Return what ``work`` makes of the engines of all ranks together, on the first rank; None on the others."""
        return GeneratorOverRanks(self.rollouts.sampler.engine, self.ranks).lead(work)

    def _model(self, step: int, weights: str) -> ModelUnderTest:
        return ModelUnderTest(
            self.spec.name, self.spec.seed, step, result_origin(self.spec.recipe, self.grader), weights
        )

    @property
    def _recorded(self) -> RunWriter:
        assert self.writer is not None  # evaluations are led by the first rank
        return self.writer


@contextmanager
def open_run(spec: RunSpec, folder: Path, options: RunOptions) -> Iterator[Run]:
    """Build every part of a run; all that was opened is closed at the end.

    Raises UserError before anything is written.
    """
    recipe, update = spec.recipe, spec.recipe.update
    with ExitStack() as stack:
        if options.threads:
            torch.set_num_threads(options.threads)
        ranks = join_ranks(update.deepspeed.seconds if update.deepspeed else RANK_SECONDS, stack)
        grader = open_grader(shared(recipe.reward, ranks), spec.rewards, options.unisolated, stack)
        manifest = {**manifest_of(spec), "ranks": ranks.world, "sandbox": grader.sandbox}
        ranks.agree("a run", {key: manifest[key] for key in AGREED}, "start the same command on every rank")
        # DeepSpeed moves the weights to its GPU itself, narrowed: in float32 those of a large model do not fit there.
        model = spec.engine.model.load(torch.device("cpu") if update.deepspeed else None)
        trainer = open_trainer(update, recipe.rollout, model, recipe.optimizer_steps, ranks, spec.seed)
        if spec.algorithm.needs_reference:
            trainer.keep_reference()
        engine = open_engine(spec.engine, model if spec.samples_from_policy else None, ranks)
        stack.callback(engine.close)
        sampler = StepSampler(
            engine, grader, spec.stream, recipe.rollout, spec.algorithm, spec.seed, recipe.reward.tests, ranks
        )
        writer = stack.enter_context(closing(RunWriter(folder, manifest))) if ranks.main else None
        trackers = open_trackers(recipe.log, folder, manifest, stack) if ranks.main else []
        if options.profile and ranks.main:
            from archer.tools.profiling import open_profile  # what it counts with is slow to load

            trackers.append(open_profile(recipe, options.profile, folder, trainer, engine, ranks, stack))
        rollouts = RolloutSource(sampler, bool(recipe.rollout.prefetch))
        console = terminal(stderr=True, quiet=not ranks.main)
        progress = stack.enter_context(TrainProgress(f"{spec.name} seed {spec.seed}", spec.steps, console=console))
        yield Run(spec, folder, ranks, trainer, rollouts, grader, writer, trackers, progress)


def manifest_of(spec: RunSpec) -> dict[str, Json]:
    """Return a run's identity and origin."""
    parts = outside_parts(spec.recipe, [spec.name])
    return {
        "recipe": asdict(spec.recipe), "recipe_digest": spec.recipe.digest(spec.name, parts), "parts": parts,
        "algorithm": spec.name, "seed": spec.seed, "threads": torch.get_num_threads(), **provenance(),
    }  # fmt: skip


def shared(section: RewardSection, ranks: Ranks) -> RewardSection:
    """Return the section with the machine's cores divided among the ranks that grade on it."""
    if ranks.world == 1 or section.workers:
        return section
    return replace(section, workers=max(1, cores() // ranks.local_world_size))
