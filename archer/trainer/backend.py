"""What a trainer needs of a backend: forward, backward, optimizer step, and full tensors from where they are kept.

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
Moments = Mapping[str, Tensor]  # AdamW's ``exp_avg``, ``exp_avg_sq`` (as the parameter) and ``step`` (a number)


class TrainBackend(Protocol):
    """How a step is computed, and where parameters and their optimizer state lie."""

    model: PreTrainedModel
    sharing: bool  # whether it takes packed rows, prompts shared, or padded ones

    def forward(self, micro: ForwardInputs) -> Scores:
        """Score the targets under the policy; log-probs carry the gradient."""
        ...

    def keep_reference(self) -> None:
        """Keep the weights as they are now: the reference of KL terms."""
        ...

    def reference(self, micro: ForwardInputs) -> Scores:
        """Score the targets under the reference. Raises ValueError where none was kept."""
        ...

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of a micro-batch's loss; ``last``: of the optimizer step's last one."""
        ...

    def step(self, lr: float) -> float:
        """Clip by the norm over all ranks, move the weights, return the norm before the clip (not finite: diverged)."""
        ...

    def full_param(self, parameter: Parameter) -> Tensor:
        """Return a parameter as the forward pass sees it, from all ranks."""
        ...

    def master_param(self, parameter: Parameter) -> Tensor:
        """Return a parameter as the optimizer sees it, in float32, from all ranks."""
        ...

    def optimizer_state(self, parameter: Parameter) -> Moments:
        """Return a parameter's optimizer state, from all ranks; empty before the first step."""
        ...

    def set_param(self, parameter: Parameter, value: Tensor) -> None:
        """Set a parameter to ``value``, the same on every rank. Raises ValueError for another shape."""
        ...

    def set_optimizer_state(self, parameter: Parameter, moments: Moments) -> None:
        """Set a parameter's optimizer state."""
        ...
