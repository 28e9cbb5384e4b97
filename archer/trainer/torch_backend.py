"""The backend of one process: AdamW over any Hugging Face causal LM, on the CPU or one GPU."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from archer.models.transformers_names import enable_checkpointing
from archer.recipe.sections import UpdateSection
from archer.trainer.backend import Moments, Scores
from archer.trainer.lora import has_adapter, without_adapter
from archer.trainer.packing import ForwardInputs
from archer.trainer.scoring import TokenScorer, check_head, shares_prompts, silence_dropout


class TorchBackend:
    """A :class:`~archer.trainer.backend.TrainBackend` that updates ``model`` in place.

    Raises :class:`~archer.errors.ModelError` if the model's logits are not a plain linear map of its last hidden
    states, from which the log-prob head computes.
    """

    def __init__(self, model: PreTrainedModel, update: UpdateSection, temperature: float) -> None:
        self.model, self.clip_norm = model, update.max_grad_norm
        check_head(model)
        silence_dropout(model)
        if update.checkpointing:
            enable_checkpointing(model)
        self.scorer = TokenScorer(model, temperature, torch.bfloat16 if update.bf16 else None)
        self.sharing = shares_prompts(self.scorer)
        self.frozen: TokenScorer | None = None
        self.optimizer = adamw(model, update)

    def forward(self, micro: ForwardInputs) -> Scores:
        """Return log-probs and entropies of the targets under the policy."""
        return score(self.scorer, micro, self.model.device)

    def keep_reference(self) -> None:
        """Keep a frozen copy of the current weights; with an adapter, the model without it is the reference."""
        self.frozen = self.scorer
        if not has_adapter(self.model):
            self.frozen = copy.deepcopy(self.scorer).eval().requires_grad_(False)

    def reference(self, micro: ForwardInputs) -> Scores:
        """Return log-probs and entropies under the reference. Raises ValueError if none was kept."""
        if self.frozen is None:
            raise ValueError("no reference policy was kept")
        with without_adapter(self.model):
            return score(self.frozen, micro, self.model.device)

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of a micro-batch's loss."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, lr: float) -> float:
        """Clip the gradient, update the weights if its norm is finite, return the norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def full_param(self, parameter: Parameter) -> Tensor:
        """Return the parameter's own tensor."""
        return parameter.detach()

    def master_param(self, parameter: Parameter) -> Tensor:
        """Return the parameter's own tensor: the optimizer works on it."""
        return parameter.detach()

    def optimizer_state(self, parameter: Parameter) -> Moments:
        """Return the parameter's optimizer state."""
        return dict(self.optimizer.state.get(parameter, {}))

    def set_param(self, parameter: Parameter, value: Tensor) -> None:
        """Set the parameter. Raises ValueError for another shape."""
        if parameter.shape != value.shape:
            raise ValueError(f"a tensor of {tuple(value.shape)} where the model has {tuple(parameter.shape)}")
        with torch.no_grad():
            parameter.copy_(value)

    def set_optimizer_state(self, parameter: Parameter, moments: Moments) -> None:
        """Set the parameter's optimizer state."""
        self.optimizer.state[parameter] = {name: value.to(parameter.device) for name, value in moments.items()}


def adamw(model: PreTrainedModel, update: UpdateSection) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, update.lr, betas=update.betas, weight_decay=update.weight_decay, fused=True)


def score(scorer: torch.nn.Module, micro: ForwardInputs, device: torch.device) -> Scores:
    """Return the log-probs and entropies that ``scorer`` computes on ``device``."""
    scores: Scores = scorer(micro.to(device))
    return scores
