"""The machine's speed, measured in about a second: the roof for every part of a step."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from archer.tools.profiling.roofline import MachineRates

SECONDS = 0.3  # of each of the three measurements
SIZE = {"cpu": 1024, "cuda": 8192}  # rows and columns of the products
COPY = 2**28  # bytes, larger than most caches
TINY = 200  # operators timed together


def measure_rates(device: torch.device, dtype: torch.dtype) -> MachineRates:
    """Return the rates of ``device``; on the CPU with torch's current threads. Leaves the global random state alone."""
    rng = torch.Generator(device).manual_seed(0)
    size = SIZE.get(device.type, SIZE["cuda"])
    # Random numbers: products of equal ones draw less power and are too fast.
    left, right = (torch.randn(size, size, device=device, generator=rng).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    source = torch.ones(COPY // 4, device=device)
    target = torch.empty_like(source)
    number = torch.ones((), device=device)

    def tiny() -> None:
        for _ in range(TINY):
            number.add_(0.0)

    with torch.no_grad():
        product = timed(lambda: torch.mm(left, right, out=out), device)
        copy = timed(lambda: target.copy_(source), device)
        operator = timed(tiny, device) / TINY
    return MachineRates(2.0 * size**3 / product, 2.0 * source.nbytes / copy, operator)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest call within :data:`SECONDS`: a roof is a lower bound."""
    work()
    wait(device)
    seconds: list[float] = []
    while sum(seconds) < SECONDS:
        start = time.perf_counter()
        work()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def wait(device: torch.device) -> None:
    """Wait until the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
