"""What is known of a model without its weights: read from disk once, when a part is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from archer.errors import ModelError
from archer.models.loading import files_digests, folder_of, load_config, load_tokenizer, load_weights, weights_digest
from archer.models.prompts import PromptRenderer
from archer.recipe.sections import ModelSection


@dataclass(frozen=True)
class ModelSpec:
    """A model by its recipe section. Every property raises ModelError where its files are missing or unusable."""

    section: ModelSection

    @cached_property
    def config(self) -> PretrainedConfig:
        """The configuration."""
        return load_config(self.section)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer."""
        return load_tokenizer(self.section)

    @cached_property
    def prompts(self) -> PromptRenderer:
        """Problems as token ids, by the chat template."""
        return PromptRenderer(self.tokenizer, self.section.chat_template_kwargs)

    @cached_property
    def context(self) -> int | None:
        """Tokens that prompt and response may have together; None where nothing says so."""
        return context_of(self.config, self.section.context)

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """The token ids that end a response."""
        try:
            generation = GenerationConfig.from_pretrained(folder_of(self.section), revision=self.section.revision)
        except OSError:  # the folder has none
            generation = GenerationConfig.from_model_config(self.config)
        return tuple(stop_ids(self.section.path, generation, self.config, self.tokenizer))

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """The sha256 of what decides samples beside the weights: configurations and tokenizer."""
        return files_digests(self.section)

    @cached_property
    def weights_digest(self) -> str:
        """The sha256 of the weights on disk."""
        return weights_digest(self.section)

    def load(self, device: torch.device | None = None) -> PreTrainedModel:
        """Load the weights in float32 on ``device`` (None: the GPU where there is one)."""
        return load_weights(self.section, device)


def context_of(config: PretrainedConfig, stated: int | None) -> int | None:
    """Return how many tokens prompt and response may have together; None where the configuration does not say.

    ``stated`` (``model.context``) comes first, also above ``max_position_embeddings`` for a model whose positions
    are rotary. Raises ModelError where they are a table of that length.
    """
    trained: int | None = getattr(config, "max_position_embeddings", None)
    if stated is None or trained is None:
        return stated or trained
    if stated > trained and not getattr(config, "rope_parameters", None):
        raise ModelError(
            f"model.context: {stated}: {config.name_or_path} has a table of {trained} positions and none beyond; "
            f"state {trained} or less"
        )
    return stated


def stop_ids(name: str, *sources: object) -> list[int]:
    """Return the ids that end a response: ``eos_token_id`` of configurations and tokenizer. Raises ModelError."""
    ids: set[int] = set()
    for source in sources:
        value = getattr(source, "eos_token_id", None)
        ids.update(value if isinstance(value, list | tuple) else [] if value is None else [value])
    if not ids:
        raise ModelError(f"{name}: no end token in generation_config.json or the tokenizer")
    return sorted(ids)
