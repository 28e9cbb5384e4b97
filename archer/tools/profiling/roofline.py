"""What a pass must compute and move at least, from the model's shape and the work counted: the roofline's numbers.

FLOPs count a multiplication and an addition as two. A token costs 2 a parameter of the layers, a pair of query and key
4 x heads x head size in every layer (scores, and values weighed by them), a row of the head 2 x H x V. The backward
pass computes two products where the forward pass has one, as each has two inputs; with checkpointing the layers'
forward pass comes once more in it. What an implementation makes again to hold less (logits that are too many to keep,
a fused attention's scores) is no need and not counted, nor is the optimizer's arithmetic: memory bounds it anywhere.

Bytes are those that no ordering of the work avoids once a call does not fit a cache: weights once a call, keys and
values of every pair that decodes, the optimizer's state. Activations are a rough count: what the forward pass keeps
is written and read once in each direction. Logits are never counted, as a fused head holds none. (Williams et al. 2009,
"Roofline", is the model; Chowdhery et al. 2022, arXiv 2204.02311 appendix B, the MFU.)

H hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

from archer.system import PassWork

WIDE = 4  # bytes of a float32: what weights, gradients and moments are kept in
OPTIMIZER = 8  # read: weight, gradient twice (its norm comes first), two moments; written: weight and moments


@dataclass(frozen=True)
class ModelCosts:
    """What the counts of a model come to. ``width`` is the bytes of a number in the layers' arithmetic.

    ``layers`` are the layers' parameters that work on a token, ``attention`` heads x head size of all layers, ``head``
    H x V, ``cache`` the elements that a token leaves in the key-value cache, ``trained`` the parameters that move,
    ``adapter`` those of them that are an adapter's, beside the ``layers`` (0: the layers themselves train),
    ``activations`` the bytes a token that the layers' forward pass keeps for the backward pass, ``share`` the ranks
    that divide the optimizer's state.
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
    """FLOPs, of them ``again`` for what was computed before, and bytes read and written."""

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
    """What the machine does: FLOP/s of large products in the training dtype, bytes/s of a copy (read and written),
    seconds that a tiny operator takes whatever it computes."""

    flops: float
    bytes: float
    operator: float

    def least(self, need: WorkNeed) -> float:
        """Return the seconds that nothing undercuts on this machine: the roofline."""
        return max(need.flops / self.flops, need.bytes / self.bytes)

    def bound(self, need: WorkNeed) -> str:
        """Return which of the two it is: "flops" or "bytes"."""
        return "flops" if need.flops / self.flops >= need.bytes / self.bytes else "bytes"


def forward(costs: ModelCosts, work: PassWork, *, kept: bool = False) -> WorkNeed:
    """Return what passes over whole sequences need, sampling's prefill among them; ``kept``: for a backward pass."""
    flops = _layers(costs, work) + 2 * costs.head * work.rows
    weights = costs.width * work.calls * (costs.layers + costs.adapter + (costs.head if work.rows else 0))
    keys = 0 if kept else 2 * costs.width * costs.cache * work.tokens  # written, and read by the queries
    return WorkNeed(flops, 0.0, weights + keys + 2 * costs.activations * work.tokens)


def decode(costs: ModelCosts, work: PassWork) -> WorkNeed:
    """Return what passes of one token a row need: every key and value before it is read, its own written."""
    flops = _layers(costs, work) + 2 * costs.head * work.rows
    weights = costs.width * work.calls * (costs.layers + costs.adapter + costs.head)
    keys = costs.width * costs.cache * (work.pairs + work.tokens)
    return WorkNeed(flops, 0.0, weights + keys)


def backward(costs: ModelCosts, work: PassWork) -> WorkNeed:
    """Return what the backward passes of ``work``'s forward passes need, gradients added to those before."""
    attention = 4 * costs.attention * work.pairs
    products = 2 * costs.layers * work.tokens
    head = 2 * costs.head * work.rows
    if costs.adapter:  # the weights beneath an adapter pass gradients on and get none
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
    """Return what ``steps`` of AdamW with a clipped norm move."""
    return WorkNeed(0.0, 0.0, OPTIMIZER * WIDE * costs.trained * steps / costs.share)


def _layers(costs: ModelCosts, work: PassWork) -> int:
    """Return the FLOPs of the layers' forward pass."""
    return 2 * (costs.layers + costs.adapter) * work.tokens + 4 * costs.attention * work.pairs
