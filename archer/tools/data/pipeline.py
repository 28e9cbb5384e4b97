"""A pipeline: one YAML in ``pipelines/`` with the sources, the steps in order, and their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import with_config

from archer.errors import DataError, RecipeError, did_you_mean
from archer.recipe.config import STRICT, assign, read_yaml, typed
from archer.recipe.sections import RewardSection, RolloutSection
from archer.system import PACKAGE
from archer.tools.data.origins import Origin
from archer.tools.data.shapes import JUDGED_BY, SHAPES
from archer.tools.data.steps import STEPS, BuildStep, needs_model
from archer.types import Json

FOLDER = PACKAGE / "tools" / "data" / "pipelines"


@with_config(STRICT)
@dataclass(frozen=True)
class Pipeline:
    """All that makes a training set. Of duplicate problems, that of the earlier source is kept.

    ``drop_examples`` removes the tests that a statement shows, ``instruction`` wraps a problem whose answer is text.
    ``rollout`` and ``grading`` configure how the models of sampling steps are run and graded.
    """

    name: str
    title: str
    reward: Literal["code", "math"]
    sources: tuple[Origin, ...]
    steps: Mapping[str, Mapping[str, Json]]
    drop_examples: bool = False
    instruction: str = "{prompt}"
    rollout: RolloutSection = field(default_factory=RolloutSection)
    bf16: bool = False
    grading: RewardSection = field(default_factory=RewardSection)

    def step(self, name: str) -> BuildStep:
        """Return a step with its values. Raises RecipeError."""
        values = dict(self.steps[name] or {})
        where, kind = f"{self.name}: steps: {name}", str(values.pop("kind", name))
        if kind not in STEPS:
            raise RecipeError(f"{where}: kind: no step {kind!r}{did_you_mean(kind, STEPS)}")
        return typed(STEPS[kind], values, where)

    def asks(self, name: str) -> bool:
        """Return whether a step needs a model."""
        return needs_model(self.step(name))


def pipeline_names() -> list[str]:
    """Return the names of the shipped pipelines."""
    return sorted(path.stem.replace("_", "-") for path in FOLDER.glob("*.yaml"))


def read_pipeline(name: str, changes: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline by name or .yaml file, with ``changes`` such as ``steps.tests.least=4``. Raises RecipeError."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in pipeline_names():
        path = FOLDER / f"{name.replace('-', '_')}.yaml"
    else:
        raise RecipeError(f"no pipeline {name!r}{did_you_mean(name, pipeline_names())}; a file's name ends in .yaml")
    values = read_yaml(path)
    for change in changes:
        assign(values, change)
    pipeline = typed(Pipeline, values, path.name)
    check(pipeline, path.name)
    return pipeline


def check(pipeline: Pipeline, where: str) -> None:
    """Raise RecipeError for a pipeline that contradicts itself."""
    for origin in pipeline.sources:
        if origin.shape not in SHAPES:
            raise RecipeError(
                f"{where}: sources: {origin.name}: shape: unknown {origin.shape!r}{did_you_mean(origin.shape, SHAPES)}"
            )
        if JUDGED_BY[origin.shape] != pipeline.reward:
            raise RecipeError(
                f"{where}: sources: {origin.name}: shape {origin.shape} is not for reward {pipeline.reward}"
            )
    names = [*(origin.name for origin in pipeline.sources), *pipeline.steps]
    twice = sorted({name for name in names if names.count(name) > 1 or "/" in name})
    if twice or not pipeline.sources:
        raise RecipeError(
            f"{where}: sources and steps need names of their own, without a slash, found {twice or 'none'}"
        )
    if pipeline.reward != "code" and "{prompt}" not in pipeline.instruction:
        raise RecipeError(f"{where}: instruction: {{prompt}} is missing, where the problem goes")
    for name in pipeline.steps:
        pipeline.step(name)


def named(option: str, options: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Read ``NAME=VALUE`` options. Raises DataError for an unknown name, a missing value, and a repeated name."""
    values = dict[str, str]()
    for text in options:
        name, equals, given = text.partition("=")
        if not equals or not given:
            raise DataError(f"{option} {text}: expected NAME=VALUE, as in {option} {known[0] if known else 'name'}=...")
        if name not in known:
            raise DataError(f"{option} {text}: no {name!r} in this pipeline{did_you_mean(name, known)}")
        if name in values:
            raise DataError(f"{option} {text}: {name} is given twice")
        values[name] = given
    return values
