"""The least that a pass must compute and move, from the model's sizes and the counted work: the roofline's numbers.

FLOPs count a multiplication and an addition as two. A token costs 2 per parameter of the layers, a pair of query and
key 4 x heads x head size in every layer (scores, and values weighed by them), a row of the head 2 x H x V. The backward
pass computes two products for each product of the forward pass, one per input; with checkpointing it also repeats the
layers' forward pass. What an implementation recomputes to save memory (logits that are too many to keep, a fused
attention's scores) is not counted, nor is the optimizer's arithmetic, which memory bounds on any machine.

Bytes are those that no order of the work avoids once a call exceeds the cache: weights once per call, keys and values
of every decoded pair, the optimizer's state. Activations are a rough count: what the forward pass saves is written and
read once in each direction. Logits are never counted, because a fused head holds none. (The model is that of Williams
et al. 2009, "Roofline"; the MFU that of Chowdhery et al. 2022, arXiv 2204.02311 appendix B.)

H hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

from archer.system import PassWork

WIDE = 4  # bytes of a float32, the dtype of weights, gradients and moments
OPTIMIZER = 8  # reads: weight, gradient twice (once for its norm), two moments; writes: weight and moments


@dataclass(frozen=True)
class ModelCosts:
    """A model's costs. ``width`` is the bytes of a number in the layers' arithmetic.

    ``layers``: parameters of the layers that are used for a token; ``attention``: heads x head size, summed over
    layers; ``head``: H x V; ``cache``: elements per token in the key-value cache; ``trained``: trained parameters;
    ``adapter``: those of an adapter, beside the ``layers`` (0: the layers themselves are trained); ``activations``:
    bytes per token that the layers' forward pass saves for the backward pass; ``share``: ranks that divide the
    optimizer's state.
    """

    layers: int
    attention: int
    head: int
    cache: int
    trained: int
    width: int
    activations: float
    adapter: int = 0
    checkpointing: bool = False
    share: int = 1


@dataclass(frozen=True)
class WorkNeed:
    """FLOPs, of which ``again`` are recomputation, and bytes read and written."""

    flops: float = 0.0
    again: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: WorkNeed) -> WorkNeed:
        return WorkNeed(self.flops + other.flops, self.again + other.again, self.bytes + other.bytes)

    def times(self, factor: float) -> WorkNeed:
        """Return the need of ``factor`` times the work."""
        return WorkNeed(factor * self.flops, factor * self.again, factor * self.bytes)


@dataclass(frozen=True)
class MachineRates:
    """What the machine does: FLOP/s of large products in the training dtype, bytes/s of a copy (read and written).

    ``operator`` is the seconds that a tiny operator takes.
    """

    flops: float
    bytes: float
    operator: float

    def least(self, need: WorkNeed) -> float:
        """Return the least seconds that the work takes on this machine: the roofline."""
        return max(need.flops / self.flops, need.bytes / self.bytes)

    def bound(self, need: WorkNeed) -> str:
        """Return what bounds the work: "flops" or "bytes"."""
        return "flops" if need.flops / self.flops >= need.bytes / self.bytes else "bytes"


def forward(costs: ModelCosts, work: PassWork, *, kept: bool = False) -> WorkNeed:
    """Return the need of passes over whole sequences, prefill included; ``kept``: a backward pass follows."""
    flops = _layers(costs, work) + 2 * costs.head * work.rows
    weights = costs.width * work.calls * (costs.layers + costs.adapter + (costs.head if work.rows else 0))
    keys = 0 if kept else 2 * costs.width * costs.cache * work.tokens  # written, and read by the queries
    return WorkNeed(flops, 0.0, weights + keys + 2 * costs.activations * work.tokens)


def decode(costs: ModelCosts, work: PassWork) -> WorkNeed:
    """Return the need of passes of one token per row: reading all earlier keys and values, writing its own."""
    flops = _layers(costs, work) + 2 * costs.head * work.rows
    weights = costs.width * work.calls * (costs.layers + costs.adapter + costs.head)
    keys = costs.width * costs.cache * (work.pairs + work.tokens)
    return WorkNeed(flops, 0.0, weights + keys)


def backward(costs: ModelCosts, work: PassWork) -> WorkNeed:
    """Return the need of the backward passes of ``work``'s forward passes, adding to existing gradients."""
    attention = 4 * costs.attention * work.pairs
    products = 2 * costs.layers * work.tokens
    head = 2 * costs.head * work.rows
    if costs.adapter:  # weights below an adapter pass gradients on but get none themselves
        flops = products + 4 * costs.adapter * work.tokens + 2 * attention + head
    else:
        flops = 2 * (products + attention + head)
    again = _layers(costs, work) if costs.checkpointing else 0
    passes = 2 if costs.checkpointing else 1
    weights = costs.width * work.calls * (passes * (costs.layers + costs.adapter) + costs.head)
    gradients = 2 * WIDE * costs.trained * work.calls
    activations = (3 if costs.checkpointing else 2) * costs.activations * work.tokens
    return WorkNeed(flops + again, again, weights + gradients + activations)


def optimizer(costs: ModelCosts, steps: int) -> WorkNeed:
    """Return the need of ``steps`` of AdamW with gradient clipping by norm."""
    return WorkNeed(0.0, 0.0, OPTIMIZER * WIDE * costs.trained * steps / costs.share)


def _layers(costs: ModelCosts, work: PassWork) -> int:
    """Return the FLOPs of the layers' forward pass."""
    return 2 * (costs.layers + costs.adapter) * work.tokens + 4 * costs.attention * work.pairs
