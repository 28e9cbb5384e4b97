"""The backend of many ranks: DeepSpeed's ZeRO 0-3 (arXiv 1910.02054) with torch's AdamW, the same in every stage.

Each rank runs the micro-batches of its own responses. Losses are already weighted over all ranks, so gradients are
summed over ranks, not averaged as DeepSpeed does. In bf16 the optimizer keeps float32 master weights.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import _set_pg_timeout, _world
from torch.func import functional_call
from torch.nn import Parameter
from transformers import PreTrainedModel

from archer.distributed import Ranks
from archer.errors import MissingError, RecipeError, first_line
from archer.models.transformers_names import enable_checkpointing
from archer.recipe.sections import DeepSpeedSection, UpdateSection
from archer.trainer.backend import Moments, Scores
from archer.trainer.lora import has_adapter, without_adapter
from archer.trainer.packing import ForwardInputs
from archer.trainer.scoring import TokenScorer, check_head, shares_prompts, silence_dropout
from archer.trainer.torch_backend import adamw, score

BUCKET = 200_000_000  # most elements reduced or gathered together
PERSIST = 10  # ZeRO 3 does not shard weights of up to this many hidden vectors: gathering them costs more


class DeepSpeedBackend:
    """A :class:`~archer.trainer.backend.TrainBackend` that updates ``model`` in place, sharded by ``options.stage``.

    Raises MissingError without DeepSpeed, ModelError as :class:`~archer.trainer.torch_backend.TorchBackend` does,
    RankError if another rank misses a collective call's deadline.
    """

    def __init__(
        self, model: PreTrainedModel, update: UpdateSection, options: DeepSpeedSection, temperature: float, ranks: Ranks
    ) -> None:
        self.model, self.ranks, self.clip_norm = model, ranks, update.max_grad_norm
        self.stage, self.bf16 = stage_of(options, update), update.bf16
        check_head(model)
        silence_dropout(model)
        if update.checkpointing:
            # Only the reentrant kind lets ZeRO 3 gather the weights again for the second forward pass.
            enable_checkpointing(model, {"use_reentrant": self.stage == 3})
            model.enable_input_require_grads()
        self.zero: Any = load()
        self.scorer = TokenScorer(model, temperature)
        self.sharing = shares_prompts(self.scorer)
        self.optimizer = adamw(model, update)
        self.frozen: dict[str, Tensor] | None = None
        join_alone(ranks)
        with ranks.deadline("setting up DeepSpeed"):
            self.engine, *_ = self.zero.initialize(
                model=self.scorer,
                optimizer=self.optimizer,
                config=configuration(model, update, options, self.stage),
                dist_init_required=False,
            )
        bound_groups(ranks.seconds)

    def forward(self, micro: ForwardInputs) -> Scores:
        """Return log-probs and entropies of the targets under the policy."""
        with self.ranks.deadline("forward pass"):
            return score(self.engine, micro, self.engine.device)

    def keep_reference(self) -> None:
        """Keep a copy of the current weights, with ZeRO 3 each rank its shards; nothing for an adapter."""
        parameters = {} if has_adapter(self.model) else dict(self.scorer.named_parameters())
        self.frozen = {name: self._shard(parameter).detach().clone() for name, parameter in parameters.items()}

    def reference(self, micro: ForwardInputs) -> Scores:
        """Return log-probs and entropies under the reference. Raises ValueError if none was kept."""
        if self.frozen is None:
            raise ValueError("no reference policy was kept")
        self.model.eval()
        if not self.frozen:
            with without_adapter(self.model):
                return self.forward(micro)
        if self.stage < 3:
            scores: Scores = functional_call(self.scorer, self.frozen, micro.to(self.engine.device))
            return scores
        with self._swapped(self.frozen):
            return self.forward(micro)

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of a micro-batch's loss, summed over the ranks."""
        self.engine.set_gradient_accumulation_boundary(last)
        with self.ranks.deadline("backward pass"):
            self.engine.backward(loss * self.ranks.world)  # DeepSpeed divides by it

    def step(self, lr: float) -> float:
        """Clip the gradient by its norm over all ranks, update the weights, return the norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        norm = torch.tensor(0.0)
        if self.stage == 0:  # gradients are whole on every rank; DeepSpeed would clip, but not return the norm
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        with self.ranks.deadline("optimizer step"):
            self.engine.step()
        if self.stage == 0:
            return float(norm)
        reported = self.engine.get_global_grad_norm()
        return float("nan") if reported is None or reported < 0 else float(reported)  # -1 means not finite

    def full_param(self, parameter: Parameter) -> Tensor:
        """Return the parameter, gathered where it is sharded."""
        if self.stage < 3:
            return parameter.detach()
        with self.ranks.deadline("gathering a weight"), self.zero.zero.GatheredParameters([parameter]):
            return parameter.detach()  # its memory outlives the parameter's own view of it

    def master_param(self, parameter: Parameter) -> Tensor:
        """Return the parameter in float32."""
        if not self.bf16 or not parameter.requires_grad:
            return self.full_param(parameter).float()
        with self.ranks.deadline("gathering a weight"):
            master: Tensor = self.zero.utils.safe_get_full_fp32_param(parameter)
        return master

    def optimizer_state(self, parameter: Parameter) -> Moments:
        """Return the parameter's optimizer state, gathered."""
        if self.stage == 0 or not self.optimizer.state:
            return dict(self.optimizer.state.get(parameter, {}))
        get = self.zero.utils.safe_get_full_optimizer_state
        with self.ranks.deadline("gathering optimizer state"):
            state: dict[str, Tensor] = {kind: get(parameter, kind) for kind in ("exp_avg", "exp_avg_sq")}
        return {**state, "step": next(iter(self.optimizer.state.values()))["step"].clone()}  # one for all

    def set_param(self, parameter: Parameter, value: Tensor) -> None:
        """Set the parameter, and its master. Raises ValueError for another shape."""
        shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
        if shape != tuple(value.shape):
            raise ValueError(f"a tensor of {tuple(value.shape)} where the model has {shape}")
        value = value.to(self.engine.device)
        shards = [parameter] if self.stage == 3 else []
        with self.ranks.deadline("setting a weight"), self.zero.zero.GatheredParameters(shards, modifier_rank=0):
            parameter.data.copy_(value)
        if self.stage > 0 and parameter.requires_grad:
            self.zero.utils.safe_set_full_fp32_param(parameter, value.float())

    def set_optimizer_state(self, parameter: Parameter, moments: Moments) -> None:
        """Set the parameter's optimizer state."""
        state = {kind: value.to(self.engine.device) for kind, value in moments.items()}
        if self.stage == 0:
            self.optimizer.state[parameter] = state
            return
        self._open_state(state.pop("step"))
        for kind, value in state.items():
            self.zero.utils.safe_set_full_optimizer_state(parameter, value, kind)

    def _open_state(self, step: Tensor) -> None:
        """Create the optimizer's state at ``step``, if it is missing: DeepSpeed would create it in the first step."""
        if self.optimizer.state:
            return
        sharding = self.engine.optimizer
        flats = [flat for group in self.optimizer.param_groups for flat in group["params"]]
        if self.stage == 3:  # the optimizer sees these one after the other
            flats = sharding.fp32_partitioned_groups_flat
        for flat in flats:
            moments = {kind: torch.zeros_like(flat) for kind in ("exp_avg", "exp_avg_sq")}
            self.optimizer.state[flat] = {"step": step.clone().to(flat.device), **moments}
        if self.stage < 3:
            sharding._lazy_init_hp_params_optimizer_state()

    def _shard(self, parameter: Parameter) -> Tensor:
        shard: Tensor = parameter.ds_tensor if self.stage == 3 else parameter  # type: ignore[attr-defined]
        return shard

    @contextmanager
    def _swapped(self, shards: dict[str, Tensor]) -> Iterator[None]:
        """Run the same modules on other shards within the context."""
        shard_of = {name: self._shard(parameter) for name, parameter in self.scorer.named_parameters()}
        own = {name: shard.data for name, shard in shard_of.items()}
        for values in (shards, own):
            self.engine.optimizer.parameter_offload.empty_partition_cache()  # it holds the other weights
            for name, shard in shard_of.items():
                shard.data = values[name]
            if values is shards:
                yield


def stage_of(options: DeepSpeedSection, update: UpdateSection) -> int:
    """Return the ZeRO stage, in bf16 at least 1, which shards the float32 masters. Raises RecipeError."""
    if options.offload and options.stage == 0:
        raise RecipeError("update.deepspeed: offload: stage 0 has nothing to offload; use stage 1 or more")
    return max(options.stage, 1) if update.bf16 else options.stage


def configuration(
    model: PreTrainedModel, update: UpdateSection, options: DeepSpeedSection, stage: int
) -> dict[str, Any]:
    """Return the configuration for DeepSpeed."""
    bucket = min(BUCKET, sum(parameter.numel() for parameter in model.parameters()))
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": bucket, "allgather_bucket_size": bucket}
    if stage == 3:
        zero["stage3_prefetch_bucket_size"] = bucket
        zero["stage3_param_persistence_threshold"] = PERSIST * model.config.hidden_size
    if options.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": 1,  # unused: `backward` marks the last micro-batch itself
        "gradient_accumulation_steps": 1,
        "gradient_clipping": update.max_grad_norm if stage else 0.0,
        "bf16": {"enabled": update.bf16},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 60,
    }


def load() -> Any:
    """Import deepspeed with its logging reduced to errors. Raises MissingError."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    try:
        import deepspeed
        import deepspeed.ops
    except ImportError as error:
        raise MissingError(f"update.deepspeed: {first_line(error)}; pip install 'archer-rlvr[deepspeed]'") from error
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    if not torch.cuda.is_available():
        # Its operators would be compiled now, one of them for ranks that share memory, which machines do not.
        deepspeed.ops.__compatible_ops__ = {}
    return deepspeed


def bound_groups(seconds: float) -> None:
    """Set the run's deadline on DeepSpeed's own process groups, which start with torch's 30 minutes."""
    for group in _world.pg_map:
        _set_pg_timeout(timedelta(seconds=seconds), group)


def join_alone(ranks: Ranks) -> None:
    """Set up the environment and process group that DeepSpeed expects, if torchrun did not."""
    os.environ.setdefault("LOCAL_RANK", str(ranks.local))
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
