"""The interface of a trainer's backend: forward, backward, optimizer step, and access to full tensors.

The update procedure (epochs, mini-batches, micro-batches, loss weights, metrics) exists once, in ``trainer.py``; a
backend runs it in one process (``torch_backend.py``) or on many (``deepspeed_backend.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from archer.trainer.packing import ForwardInputs

Scores = tuple[Tensor, Tensor]  # log-probs and entropies of response tokens, one response after the other, both (N,)
Moments = Mapping[str, Tensor]  # AdamW's ``exp_avg``, ``exp_avg_sq`` (shape of the parameter), ``step`` (scalar)


class TrainBackend(Protocol):
    """Computes a step, and holds parameters and optimizer state, whole or in shards."""

    model: PreTrainedModel
    sharing: bool  # whether it takes packed rows that share prompts, or padded rows

    def forward(self, micro: ForwardInputs) -> Scores:
        """Return log-probs and entropies of the targets under the policy; log-probs carry the gradient."""
        ...

    def keep_reference(self) -> None:
        """Keep a copy of the current weights as the reference of KL terms."""
        ...

    def reference(self, micro: ForwardInputs) -> Scores:
        """Return log-probs and entropies under the reference. Raises ValueError if none was kept."""
        ...

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of a micro-batch's loss; ``last`` marks the last micro-batch of the optimizer step."""
        ...

    def step(self, lr: float) -> float:
        """Clip the gradient by its norm over all ranks, update the weights, return the norm before clipping.

        A norm that is not finite means that training diverged.
        """
        ...

    def full_param(self, parameter: Parameter) -> Tensor:
        """Return a whole parameter in the dtype of the forward pass. A call of all ranks."""
        ...

    def master_param(self, parameter: Parameter) -> Tensor:
        """Return a whole parameter in the optimizer's float32. A call of all ranks."""
        ...

    def optimizer_state(self, parameter: Parameter) -> Moments:
        """Return a parameter's whole optimizer state, empty before the first step. A call of all ranks."""
        ...

    def set_param(self, parameter: Parameter, value: Tensor) -> None:
        """Set a parameter to ``value``, the same on every rank. Raises ValueError for another shape."""
        ...

    def set_optimizer_state(self, parameter: Parameter, moments: Moments) -> None:
        """Set a parameter's optimizer state."""
        ...
