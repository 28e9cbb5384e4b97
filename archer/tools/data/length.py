"""Drop prompts that are too long for training, counted in a model's tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import with_config

from archer.errors import RecipeError
from archer.recipe.config import STRICT
from archer.tools.data.candidate import Ask, Candidate, Drop

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archer.recipe.sections import ModelSection


@with_config(STRICT)
@dataclass(frozen=True)
class Longest:
    """``tokens`` is the longest allowed prompt, the chat template included."""

    tokens: int = 2048

    def __post_init__(self) -> None:
        """Raise RecipeError for a length below 1."""
        if self.tokens < 1:
            raise RecipeError(f"length: expected 1 token or more, found {self.tokens}")

    def longer(self, candidates: Iterable[Candidate], ask: Ask, model: ModelSection) -> Iterator[Drop]:
        """Yield longer prompts by the model's tokenizer; its weights are not loaded. Raises ModelError."""
        from archer.models.spec import ModelSpec

        prompts = ModelSpec(model).prompts
        for candidate in candidates:
            length = len(prompts.encode(ask(candidate)))
            if length > self.tokens:
                yield Drop(candidate.id, f"prompt of more than {self.tokens} tokens", str(length))
