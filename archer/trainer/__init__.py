"""Training: one update procedure over two backends, sequence packing, scoring, adapters, importance weights.

In: groups of ``TrainSample``, and an algorithm. Out: updated weights and metrics. May use: models, recipe, algorithms
and below.
"""

from __future__ import annotations

import zlib

from transformers import PreTrainedModel

from archer.distributed import Ranks
from archer.errors import RecipeError
from archer.recipe.sections import RolloutSection, UpdateSection
from archer.trainer.backend import TrainBackend
from archer.trainer.lora import add_adapter
from archer.trainer.torch_backend import TorchBackend
from archer.trainer.trainer import Trainer

__all__ = ["Trainer", "open_trainer"]


def open_trainer(
    update: UpdateSection, rollout: RolloutSection, model: PreTrainedModel, optimizer_steps: int, ranks: Ranks,
    seed: int = 0,
) -> Trainer:  # fmt: skip
    """Return the trainer of ``model`` for ``optimizer_steps`` steps in all; ``seed`` initialises an adapter.

    Raises RecipeError for several ranks without DeepSpeed, MissingError if a package is not installed, and ModelError
    if the log-prob head does not support the model.
    """
    if update.lora is not None:
        add_adapter(model, update.lora, zlib.crc32(f"{seed}/lora".encode()))
    backend = open_backend(update, rollout.temperature, model, ranks)
    return Trainer(backend, update, optimizer_steps, rollout.max_tokens, ranks)


def open_backend(update: UpdateSection, temperature: float, model: PreTrainedModel, ranks: Ranks) -> TrainBackend:
    """Return the DeepSpeed backend if the recipe sets ``update.deepspeed``, else the backend of one process."""
    if update.deepspeed is not None:
        from archer.trainer.deepspeed_backend import DeepSpeedBackend

        return DeepSpeedBackend(model, update, update.deepspeed, temperature, ranks)
    if ranks.world > 1:
        raise RecipeError(
            f"update: deepspeed is not set, and {ranks.world} ranks were started; set update.deepspeed={{stage: 2}}, "
            "or start one process"
        )
    return TorchBackend(model, update, temperature)
