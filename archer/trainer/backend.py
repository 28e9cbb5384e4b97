"""What a policy promises to the loop, and what the mechanics of a step promise to the policy.

The update procedure (epochs, mini-batches, micro-batches, loss weights, metrics) exists once, in ``learner.py``.
Mechanics run it on one process or on many: forward, backward, step, and whole tensors from where they are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from archer.algorithms import Algorithm
from archer.system import WorkCounter
from archer.trainer.batch import Group
from archer.trainer.packing import ForwardInputs

Scores = tuple[Tensor, Tensor]  # log-probs and entropies of response tokens, one response after the other, both (N,)
Moments = Mapping[str, Tensor]  # AdamW's ``exp_avg``, ``exp_avg_sq`` (as the parameter) and ``step`` (a number)


class Policy(Protocol):
    """A model and its optimizer. In a run of several ranks every call is one of all ranks, with the same groups.

    ``version`` counts the training steps behind the weights, ``tally`` the work of this rank.
    """

    version: int
    tally: WorkCounter

    def keep_reference(self) -> None:
        """Keep the weights as they are now: the reference of KL terms."""
        ...

    def add_reference(self, groups: Sequence[Group], algorithm: Algorithm) -> list[Group]:
        """Return the groups with the reference's log-probs of every token that ``algorithm`` holds to it.

        Needs :meth:`keep_reference`.
        """
        ...

    def score(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups with log-probs and entropies by the policy's own pass; the engine's log-probs are kept."""
        ...

    def update(self, groups: Sequence[Group], algorithm: Algorithm) -> dict[str, float]:
        """Train on the groups; return metrics, the same on every rank. Raises UserError when training diverged."""
        ...

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight by its Hugging Face name, whole and merged. Every rank iterates to the end.

        Tied weights come once, by the first of their names. A tensor is the policy's own where it is whole already.
        """
        ...

    def write(self, folder: Path) -> None:
        """Write a Hugging Face model and the optimizer's state into ``folder``; rank 0 alone writes.

        Raises OSError or RuntimeError, on rank 0 alone, after all ranks contributed.
        """
        ...

    def read(self, folder: Path) -> None:
        """Take back what :meth:`write` wrote, with whatever mechanics and number of ranks.

        Raises RunFolderError when it does not fit, OSError and others when a file is damaged.
        """
        ...


class TrainBackend(Protocol):
    """How a step is computed, and where parameters and their optimizer state lie."""

    model: PreTrainedModel
    sharing: bool  # whether it takes packed rows, prompts shared, or padded ones

    def forward(self, micro: ForwardInputs) -> Scores:
        """Score the targets under the policy; log-probs carry the gradient."""
        ...

    def keep_reference(self) -> None:
        """See :meth:`Policy.keep_reference`."""
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
