"""The costs of a recipe's model per token, pair and row, from the sizes and activations that planning counts."""

from __future__ import annotations

from archer.models.loading import load_config
from archer.recipe.sections import Recipe
from archer.tools.planning.activations import PassDtypes, kept
from archer.tools.planning.shape import read_shape
from archer.tools.profiling.roofline import WIDE, ModelCosts

HALF = 2  # bytes of a bfloat16


def costs_of(recipe: Recipe, ranks: int = 1) -> ModelCosts:
    """Return the costs of training and sampling by the recipe on ``ranks`` ranks. Raises ModelError."""
    config, update, zero = load_config(recipe.model), recipe.update, recipe.update.deepspeed
    shape = read_shape(config, recipe.model.path, recipe.update.lora)
    narrow = update.bf16 and zero is not None
    what = kept(config, PassDtypes(bf16_weights=narrow, autocast=update.bf16 and not narrow))
    return ModelCosts(
        layers=shape.active - shape.head * (1 if shape.tied else 2),
        attention=shape.attention,
        head=shape.head,
        cache=shape.position,
        trained=shape.adapter or shape.parameters,
        width=HALF if update.bf16 else WIDE,
        activations=what.layer * shape.layers + what.rest,
        adapter=shape.adapter,
        checkpointing=update.checkpointing,
        share=ranks if zero is not None and zero.stage else 1,
    )
