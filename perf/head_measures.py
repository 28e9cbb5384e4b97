"""How a head is measured: seconds, page faults, extra bytes, errors against float64, the rate of a matrix product.

N tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from head_contenders import Head
from torch import Tensor

NAMES = ("log-prob", "entropy", "hidden gradient", "weight gradient")


@dataclass(frozen=True)
class Shape:
    """What is measured: N tokens, H, V, and the dtype of hidden states and weight."""

    tokens: int
    hidden: int
    vocabulary: int
    dtype: torch.dtype
    device: str

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return hidden states, weight and targets as of a model: logits of a few, some tokens likely."""
        rng = torch.Generator().manual_seed(0)
        hidden = torch.randn(self.tokens, self.hidden, generator=rng).to(self.device, self.dtype)
        weight = (torch.randn(self.vocabulary, self.hidden, generator=rng) * 0.05).to(self.device, self.dtype)
        target = torch.randint(0, self.vocabulary, (self.tokens,), generator=rng).to(self.device)
        return hidden.requires_grad_(), weight.requires_grad_(), target

    @property
    def work(self) -> float:
        """Floating point operations of three matrix products: what has to be done."""
        return 6.0 * self.tokens * self.hidden * self.vocabulary


def loss(found: tuple[Tensor, Tensor | None], dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a loss with a weight of its own on each token."""
    logp_N, entropy_N = found
    weight_N = torch.linspace(0.5, 1.5, len(logp_N), device=logp_N.device, dtype=dtype)
    return (logp_N * weight_N).sum() + (0.0 if entropy_N is None else 0.1 * (entropy_N * weight_N).sum())


def once(head: Head, inputs: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
    """Return seconds of the forward pass and of both, and the page faults meanwhile."""
    hidden, weight, _ = inputs
    hidden.grad = weight.grad = None
    wait(hidden)
    faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    total = loss(head(*inputs))
    wait(hidden)
    forward = time.perf_counter()
    total.backward()
    wait(hidden)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return {"seconds": seconds, "forward": forward - start, "page faults": after - faults}


def wait(tensor: Tensor) -> None:
    """Wait for the device."""
    if tensor.is_cuda:
        torch.cuda.synchronize()


def extra(head: Head, inputs: tuple[Tensor, Tensor, Tensor]) -> float:
    """Return the most bytes held beside the inputs and, where it is there, the weight's gradient."""
    hidden, weight, _ = inputs
    hidden.grad = weight.grad = None
    gc.collect()
    live = gradients = most = 0
    for size in allocations(lambda: loss(head(*inputs)).backward(), hidden.device):
        live += size
        if abs(size) // 512 == weight.nbytes // 512:  # a GPU's allocator rounds up to 512
            gradients += 1 if size > 0 else -1
        most = max(most, live - weight.nbytes * (gradients > 0))
    return float(most)


def allocations(run: Callable[[], None], device: torch.device) -> list[int]:
    """Return the bytes of every allocation, negative where they are freed, in order."""
    if device.type == "cuda":
        torch.cuda.memory._record_memory_history("all", context=None, stacks="python", max_entries=10**6)
        run()
        torch.cuda.synchronize()
        events = torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]
        torch.cuda.memory._record_memory_history(enabled=None)
        signs = {"alloc": 1, "free_requested": -1}
        return [signs[event["action"]] * event["size"] for event in events if event["action"] in signs]
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # it reports its own start and end else
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    return [event.nbytes() for event in events if event.name() == "[memory]"]


def errors(heads: dict[str, Head], shape: Shape) -> dict[str, object]:
    """Return the greatest differences from float64, and those relative to the greatest exact value."""
    hidden, weight, target = shape.inputs()
    exact_inputs = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    logp_NV = torch.log_softmax(exact_inputs[0] @ exact_inputs[1].T, -1)
    outputs = logp_NV.gather(1, target[:, None])[:, 0], -(logp_NV.exp() * logp_NV).sum(-1)
    loss(outputs, torch.float64).backward()
    del logp_NV  # the largest tensor by far
    exact = dict(zip(NAMES, (*outputs, *(one.grad for one in exact_inputs)), strict=True))
    found: dict[str, object] = {}
    for name, head in heads.items():
        hidden.grad = weight.grad = None
        logp_N, entropy_N = head(hidden, weight, target)
        if entropy_N is None:
            found[name] = {"log-prob": difference(logp_N, exact["log-prob"])}  # another loss, other gradients
            continue
        loss((logp_N, entropy_N)).backward()
        mine = zip(NAMES, (logp_N, entropy_N, hidden.grad, weight.grad), strict=True)
        found[name] = {what: difference(value, exact[what]) for what, value in mine}
    return found


def difference(found: Tensor, exact: Tensor) -> dict[str, float]:
    """Return the greatest absolute difference, and relative to the greatest exact value."""
    parts = zip(found.detach().split(256), exact.detach().split(256), strict=True)
    most = max(float((mine.double() - right).abs().max()) for mine, right in parts)
    return {"absolute": most, "relative": most / float(exact.detach().abs().max())}


def rate(shape: Shape) -> float:
    """Return floating point operations a second of one large matrix product: the best of ten."""
    hidden, weight, _ = (one.detach() for one in shape.inputs())
    best = 0.0
    for _ in range(10):
        wait(hidden)
        start = time.perf_counter()
        hidden @ weight.T
        wait(hidden)
        best = max(best, shape.work / 3 / (time.perf_counter() - start))
    return best
