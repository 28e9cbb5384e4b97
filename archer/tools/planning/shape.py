"""A model's sizes from its configuration alone, without loading or creating weights.

V vocabulary, H hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from archer.errors import ModelError, first_line
from archer.models.loading import EMBEDDED, folder_of
from archer.recipe.sections import LoraSection, ModelSection

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model. ``active`` parameters are used for a token (fewer than all with experts).

    ``head``: V x H, elements of the output weight; ``tied``: whether it is also the embedding's; ``position``: elements
    per token in the key-value cache; ``attention``: heads x head size, summed over layers; ``adapter``: parameters
    trained with LoRA (0: none).
    """

    source: str
    parameters: int
    active: int
    layers: int
    hidden: int
    vocabulary: int
    head: int
    tied: bool
    position: int
    attention: int
    context: int | None
    adapter: int = 0


def find_model(model: ModelSection) -> tuple[ModelSection, str]:
    """Return the section that names a model's configuration, and where the configuration is from.

    A model on this machine comes first, then the committed copy of a few public models, for which nothing is
    downloaded, then the hub.
    """
    if model.path == EMBEDDED or Path(folder_of(model)).is_dir():
        return model, "this machine"
    try:
        cached_file(model.path, "config.json", revision=model.revision, local_files_only=True)
        return model, "this machine"
    except OSError:
        copy = CONFIGS / model.path.replace("/", "--")
    if copy.is_dir():
        return replace(model, path=str(copy), revision=None), "a copy in tools/planning/configs, for planning only"
    return model, "the hub"


def read_shape(config: PretrainedConfig, source: str, lora: LoraSection | None = None) -> ModelShape:
    """Return the sizes that a configuration describes. Raises ModelError if no causal language model is made of it."""
    model = empty_model(config)
    head = model.get_output_embeddings().weight
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return ModelShape(
        source=source,
        parameters=count(model.parameters()),
        active=count(model.parameters()) - idle_experts(model),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        vocabulary=len(head),
        head=head.numel(),
        tied=head is model.get_input_embeddings().weight,
        position=2 * config.num_hidden_layers * heads * size,
        attention=config.num_hidden_layers * config.num_attention_heads * size,
        context=getattr(config, "max_position_embeddings", None),
        adapter=0 if lora is None else adapter_size(model, lora),
    )


def empty_model(config: PretrainedConfig) -> PreTrainedModel:
    """Return the model on the meta device, without data. Raises ModelError."""
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (ValueError, KeyError, AttributeError, ImportError) as error:
        raise ModelError(
            f"model.path: {config.name_or_path}: no causal language model can be made of its configuration: "
            f"{first_line(error)}"
        ) from error


def count(parameters: Iterable[torch.nn.Parameter]) -> int:
    """Return the number of elements of the parameters."""
    return sum(parameter.numel() for parameter in parameters)


def idle_experts(model: PreTrainedModel) -> int:
    """Return the parameters of experts that are not used for a token (0 without experts)."""
    experts = getattr(model.config, "num_experts", None)
    if not experts:
        return 0
    routed = count([parameter for name, parameter in model.named_parameters() if ".experts." in name])
    used: int = model.config.num_experts_per_tok
    return routed - routed * used // int(experts)


def adapter_size(model: PreTrainedModel, lora: LoraSection) -> int:
    """Return rank x (inputs + outputs) summed over the layers with an adapter. Raises ModelError for none."""
    head = model.get_output_embeddings()
    layers = [
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module is not head
        and (not lora.targets or name.rpartition(".")[2] in lora.targets)
    ]
    if not layers:
        raise ModelError(f"update.lora.targets: {', '.join(lora.targets)}: no linear layer has such a name")
    ends: int = sum(module.in_features + module.out_features for module in layers)
    return lora.rank * ends
