"""What a run is, found out once: its recipe resolved into what each room is given. Loads no weights, writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from archer.algorithms import Algorithm
from archer.engines import find_engine
from archer.engines.requests import check_width
from archer.engines.spec import EngineSpec
from archer.errors import UserError
from archer.evaluation.loaded import LoadedBenchmark
from archer.evaluation.model import load_benchmarks
from archer.problems.streams import ProblemStream, open_stream, reward_of
from archer.recipe.algorithm import build_algorithm
from archer.recipe.rewards import counted_reward
from archer.recipe.sections import Recipe
from archer.runs.trackers import check_trackers


@dataclass(frozen=True)
class RunSpec:
    """One algorithm with one seed, and everything it is trained and evaluated with."""

    recipe: Recipe
    name: str
    """The algorithm's name in the recipe."""
    algorithm: Algorithm
    seed: int
    engine: EngineSpec
    """How rollouts are sampled, of which model."""
    stream: ProblemStream
    """The training problems, an endless sequence that depends on the seed alone."""
    benchmarks: tuple[LoadedBenchmark, ...]

    @property
    def steps(self) -> int:
        """Training steps."""
        return self.recipe.steps

    @property
    def rewards(self) -> set[str]:
        """The rewards that grade its problems, in training and in evaluation."""
        evaluated = {counted_reward(reward_of(loaded.benchmark.data)) for loaded in self.benchmarks}
        return evaluated | {reward_of(source) for source in self.recipe.data}

    @property
    def samples_from_policy(self) -> bool:
        """Whether the native engine samples from the trainer's own module: it is whole, and at rest meanwhile."""
        zero = self.recipe.update.deepspeed
        return not (zero is not None and zero.stage == 3) and not self.recipe.rollout.prefetch

    @property
    def engine_differs(self) -> bool:
        """Whether the engine's log-probs may be others than the policy's: other kernels, or older weights."""
        return find_engine(self.recipe.rollout).differs or bool(self.recipe.rollout.prefetch)


def resolve(recipe: Recipe, algorithm: str = "", seed: int = 0, data: Mapping[str, Path] | None = None) -> RunSpec:
    """Return the run of one ``algorithm`` (none: the recipe's only one); ``data`` names files of benchmarks' rows.

    Finds what would end the run later: data, benchmarks, chat template, context, packages. Of the training data it
    tokenizes one step's worth of prompts. Raises UserError.
    """
    if recipe.evaluate.server:
        raise UserError(
            f"evaluate.server: {recipe.evaluate.server} answers with its own weights, not with those of the run; leave "
            "it out to train, and evaluate the finished model with `archer eval --server`"
        )
    name = algorithm or only_algorithm(recipe)
    built = build_algorithm(recipe, name)
    check_trackers(recipe.log)
    find_engine(recipe.rollout)
    benchmarks = tuple(load_benchmarks(recipe.evaluate, data))
    spec = RunSpec(recipe, name, built, seed, EngineSpec.of(recipe), open_stream(recipe.data, seed), benchmarks)
    check_context(spec)
    return spec


def only_algorithm(recipe: Recipe) -> str:
    """Return the name of a recipe's one algorithm. Raises UserError where it has several."""
    if len(recipe.algorithms) != 1:
        raise UserError(f"{recipe.name}: has {', '.join(recipe.algorithms)}; choose one with --algorithm")
    return next(iter(recipe.algorithms))


def check_context(spec: RunSpec) -> None:
    """Raise DataError where a prompt of the first step or of a benchmark, with its response, exceeds the context."""
    rollout, prompts = spec.recipe.rollout, spec.engine.model.prompts
    asked = [(rollout.max_tokens, spec.stream.take(0, rollout.prompts))]
    asked += [(loaded.benchmark.sampling.max_tokens, list(loaded.problems)) for loaded in spec.benchmarks]
    for max_tokens, problems in asked:
        longest = max(problems, key=lambda problem: len(prompts.encode(problem)))
        check_width(longest.id, len(prompts.encode(longest)), max_tokens, spec.engine.model.context)
