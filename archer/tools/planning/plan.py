"""The plan of a run on given machines: what it is, needs and does, and why it cannot run there, if it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from transformers import PretrainedConfig

from archer.engines.kind import GIB
from archer.errors import DataError
from archer.models.loading import load_config
from archer.models.spec import ModelSpec
from archer.problems.rows import is_local
from archer.problems.streams import open_stream
from archer.recipe.algorithm import build_algorithm
from archer.recipe.sections import LoraSection, ModelSection, Recipe
from archer.tools.planning.activations import PassDtypes, kept
from archer.tools.planning.memory import PHASES, PROMPT, Cluster, MemoryPlan, RankLoad, load_of, memory_of
from archer.tools.planning.shape import ModelShape, find_model, read_shape
from archer.tools.planning.work import PlannedWork, work_of


@dataclass(frozen=True)
class TrainingPlan:
    """A recipe's ``algorithm`` on a cluster. ``faults`` are the reasons why it cannot run; empty if it can."""

    recipe: Recipe
    algorithm: str
    cluster: Cluster
    shape: ModelShape
    load: RankLoad
    memory: MemoryPlan
    work: PlannedWork
    faults: tuple[str, ...]


def make_plan(recipe: Recipe, algorithm: str, cluster: Cluster) -> TrainingPlan:
    """Return the plan. Raises UserError for an invalid recipe, algorithm or model."""
    reference = build_algorithm(recipe, algorithm).needs_reference
    config, shape = described(recipe.model.path, recipe.model.revision, recipe.update.lora)
    bf16, sharded = recipe.update.bf16, recipe.update.deepspeed is not None
    per_token = kept(config, PassDtypes(bf16_weights=bf16 and sharded, autocast=bf16 and not sharded))
    load = load_of(recipe, longest_prompt(recipe), cluster)
    memory = memory_of(recipe, shape, per_token, load, cluster, reference)
    plan = TrainingPlan(recipe, algorithm, cluster, shape, load, memory, work_of(recipe), ())
    return replace(plan, faults=tuple(faults(plan)))


@cache  # the search for a plan that fits makes dozens of them
def described(path: str, revision: str | None, lora: LoraSection | None) -> tuple[PretrainedConfig, ModelShape]:
    """Return a model's configuration and shape. Raises ModelError."""
    named, source = find_model(ModelSection(path, revision))
    config = load_config(named)
    return config, read_shape(config, source, lora)


def longest_prompt(recipe: Recipe) -> int:
    """Return the tokens of the longest prompt in a lab recipe's first steps; for other recipes an upper bound."""
    if any(source.path for source in recipe.data):
        return PROMPT
    prompts = ModelSpec(recipe.model).prompts
    asked = open_stream(recipe.data, 0).take(0, 8 * recipe.rollout.prompts)
    return max(len(prompts.encode(problem)) for problem in asked)


def context(plan: TrainingPlan) -> int | None:
    """Return the tokens that prompt and response may have together; None if neither recipe nor model limits them."""
    return plan.recipe.model.context or plan.shape.context


def faults(plan: TrainingPlan) -> list[str]:
    """Return the reasons why the plan cannot run: memory, cache, context, ranks."""
    reasons, room = [], plan.cluster.memory * GIB
    for phase in PHASES:
        total = plan.memory.total(phase)
        if total > room:
            reasons.append(f"{phase} takes {total / GIB:.1f} GiB of a GPU, it has {plan.cluster.memory:.1f}")
    limit = context(plan)
    if limit is not None and plan.load.row > limit:
        reasons.append(f"a prompt and a response make {plan.load.row:,} tokens, the model's context is {limit:,}")
    reasons += plan.memory.faults
    if plan.cluster.world > 1 and plan.recipe.update.deepspeed is None:
        reasons.append(f"{plan.cluster.world} ranks have nothing to train together with: update.deepspeed is not set")
    return reasons


def missing_data(recipe: Recipe) -> Mapping[str, str]:
    """Return errors about training data missing on this machine, by source. Hub data sets are not checked."""
    errors = {}
    for source in recipe.data:
        try:
            if source.path is not None and is_local(source) and not Path(source.path).exists():
                open_stream([source], 0)
        except DataError as error:
            errors[source.name] = str(error)
    return errors
