"""Rollout engines: prompts in, sampled responses with their log-probs out."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from archer.engines.native import Native
from archer.policies.load import files_digests
from archer.prompts import Prompts
from archer.recipe import Recipe

ENGINES = {"native": Native}


def open_engine(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Native:
    """Return the recipe's engine over ``model``, in the arithmetic that the policy trains in."""
    engine = ENGINES[recipe.rollout.engine]
    autocast = torch.bfloat16 if recipe.update.bf16 else None
    prompts = Prompts(tokenizer, recipe.model.template)
    files = files_digests(recipe.model)
    return engine(model, tokenizer, prompts, recipe.rollout.slots, autocast, recipe.model.context, files)
