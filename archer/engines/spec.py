"""The parameters that open an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from archer.models.spec import ModelSpec
from archer.recipe.sections import Recipe, RolloutSection
from archer.types import Json


@dataclass(frozen=True)
class EngineSpec:
    """How to sample rollouts, from which model, and whether its layers compute in bfloat16."""

    rollout: RolloutSection
    model: ModelSpec
    bf16: bool = False

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """Return the engine spec of a recipe."""
        return cls(recipe.rollout, ModelSpec(recipe.model), recipe.update.bf16)

    @property
    def dtype(self) -> str:
        """The name of the layers' dtype."""
        return "bfloat16" if self.bf16 else "float32"

    def describe(self) -> dict[str, Json]:
        """Return the engine's name, dtype and the digests of the model's files. Raises ModelError."""
        return engine_description(self.bf16, self.model.digests, self.rollout.engine)


def engine_description(bf16: bool, files: Mapping[str, str], name: str = "native") -> dict[str, Json]:
    """Return an engine's description: its ``name``, dtype, and the digests of the model's files."""
    return {"name": name, "dtype": "bfloat16" if bf16 else "float32", "files": dict(files)}
