"""A pipeline: one YAML in ``pipelines/`` with the sources, the steps in their order, and every number in them."""

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
    """Everything a training set is made by. Of copies that of the earlier source stays.

    ``drop_examples`` takes the tests that a statement shows out of its tests, ``instruction`` wraps a problem whose
    answer is text. ``rollout`` and ``reward`` say how the models of the sampling steps are run and graded.
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
        """Say whether a step needs a model."""
        return needs_model(self.step(name))


def pipeline_names() -> list[str]:
    """Return the names of the shipped pipelines."""
    return sorted(path.stem.replace("_", "-") for path in FOLDER.glob("*.yaml"))


def read_pipeline(name: str, changes: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline by name, or a .yaml file; ``changes`` are ``steps.tests.least=4``. Raises RecipeError."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in pipeline_names():
        path = FOLDER / f"{name.replace('-', '_')}.yaml"
    else:
        raise RecipeError(f"no pipeline {name!r}{did_you_mean(name, pipeline_names())}; a file's name ends in .yaml")
    values = read_yaml(path)
    for change in changes:
        assign(values, change)
    found = typed(Pipeline, values, path.name)
    check(found, path.name)
    return found


def check(found: Pipeline, where: str) -> None:
    """Refuse what contradicts itself. Raises RecipeError."""
    for origin in found.sources:
        if origin.shape not in SHAPES:
            raise RecipeError(
                f"{where}: sources: {origin.name}: shape: unknown {origin.shape!r}{did_you_mean(origin.shape, SHAPES)}"
            )
        if JUDGED_BY[origin.shape] != found.reward:
            raise RecipeError(f"{where}: sources: {origin.name}: shape {origin.shape} is not for reward {found.reward}")
    names = [*(origin.name for origin in found.sources), *found.steps]
    twice = sorted({name for name in names if names.count(name) > 1 or "/" in name})
    if twice or not found.sources:
        raise RecipeError(
            f"{where}: sources and steps need names of their own, without a slash, found {twice or 'none'}"
        )
    if found.reward != "code" and "{prompt}" not in found.instruction:
        raise RecipeError(f"{where}: instruction: {{prompt}} is missing, where the problem goes")
    for name in found.steps:
        found.step(name)


def named(option: str, options: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Read ``NAME=VALUE`` options. Raises DataError for an unknown name, and for one given twice."""
    found = dict[str, str]()
    for text in options:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise DataError(f"{option} {text}: expected NAME=VALUE, as in {option} {known[0] if known else 'name'}=...")
        if name not in known:
            raise DataError(f"{option} {text}: no {name!r} in this pipeline{did_you_mean(name, known)}")
        if name in found:
            raise DataError(f"{option} {text}: {name} is given twice")
        found[name] = value
    return found
