"""Policies: a model, its optimizer, and one update step."""

from __future__ import annotations

import zlib

from transformers import PreTrainedModel

from archer.distributed import Ranks
from archer.errors import RecipeError
from archer.recipe.sections import Recipe
from archer.trainer.backend import Policy, TrainBackend
from archer.trainer.lora import add_adapter
from archer.trainer.torch_backend import TorchBackend
from archer.trainer.trainer import Trainer

__all__ = ["Policy", "open_trainer"]


def open_trainer(recipe: Recipe, model: PreTrainedModel, ranks: Ranks, seed: int = 0) -> Policy:
    """Return the policy that trains ``model`` as the recipe says; ``seed`` draws an adapter's first weights.

    Raises RecipeError where several ranks have nothing to train together with, MissingError for a package that is
    not installed, ModelError for a model that the head does not cover.
    """
    update = recipe.update
    if recipe.update.lora is not None:
        add_adapter(model, recipe.update.lora, zlib.crc32(f"{seed}/lora".encode()))
    planned = recipe.steps * update.epochs * -(-recipe.rollout.prompts // update.mini_batch)
    return Trainer(open_backend(recipe, model, ranks), update, planned, recipe.rollout.max_tokens, ranks)


def open_backend(recipe: Recipe, model: PreTrainedModel, ranks: Ranks) -> TrainBackend:
    """Return DeepSpeed's mechanics where the recipe asks for them, else those of one process."""
    temperature = recipe.rollout.temperature
    if recipe.update.deepspeed is not None:
        from archer.trainer.deepspeed_backend import DeepSpeedBackend

        return DeepSpeedBackend(model, recipe.update, recipe.update.deepspeed, temperature, ranks)
    if ranks.world > 1:
        raise RecipeError(
            f"{recipe.name}: update: deepspeed is not set, and {ranks.world} ranks were started; set "
            "update.deepspeed={stage: 2}, or start one process"
        )
    return TorchBackend(model, recipe.update, temperature)
