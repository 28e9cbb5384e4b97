"""Heads to compare: each a function of hidden states (N, H), weight (V, H) and targets (N,) to log-probs and entropies.

A contender is loaded on demand; what does not import or does not run here is reported with its reason.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from archer.models.heads import log_probs

Head = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]


def archer(device: str) -> Head:
    """Ours."""
    return log_probs


def eager(device: str) -> Head:
    """What one writes: all logits in float32, log softmax, entropy."""

    def head(hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        logp_NV = torch.log_softmax((hidden_NH @ weight_VH.T).float(), -1)
        return logp_NV.gather(1, target_N[:, None])[:, 0], -(logp_NV.exp() * logp_NV).sum(-1)

    return head


def compiled(device: str) -> Head:
    """The same under torch.compile."""
    return torch.compile(eager(device))  # type: ignore[no-any-return]


def trl(device: str) -> Head:
    """TRL's chunked function, with its trainers' chunk of the vocabulary."""
    from trl.kernels import ChunkedLogProbFunction

    def head(hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        found = ChunkedLogProbFunction.apply(hidden_NH, weight_VH, None, target_N, 1.0, 32768, None, 1.0, ("entropy",))
        return found[0], found[1]

    return head


def liger(device: str) -> Head:
    """Liger's fused linear scaled cross entropy: CuTe on Hopper, its torch fallback elsewhere."""
    from liger_kernel.ops.fused_linear_scaled_cross_entropy import LigerFusedLinearScaledCrossEntropyFunction as Fused

    def head(hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        nll_N, entropy_N = Fused.apply(hidden_NH, weight_VH, target_N, 1.0, -100, 1, True)
        return -nll_N, entropy_N

    return head


def liger_torch(device: str) -> Head:
    """Liger's torch fallback, by name: on Hopper its dispatch would take CuTe."""
    found = importlib.import_module("liger_kernel.ops.fused_linear_scaled_cross_entropy")

    def head(hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        nll_N, entropy_N = found._FusedLinearPPOFallbackFunction.apply(hidden_NH, weight_VH, target_N, 1.0, -100, True)
        return -nll_N, entropy_N

    return head


def liger_selective(device: str) -> Head:
    """What Liger's chunked RL losses use: log-probs alone, over chunks of the vocabulary."""
    found = importlib.import_module("liger_kernel.chunked_loss.fused_linear_ppo")

    def head(hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor) -> tuple[Tensor, None]:
        return found._ChunkedSelectiveLogProbFunction.apply(hidden_NH, weight_VH, target_N, None, 1.0, 4096), None

    return head


def liger_triton(device: str) -> Head:
    """Liger's Triton fused linear cross entropy: log-probs alone; its gradients are made in its forward pass."""
    if device != "cuda":
        raise RuntimeError("its Triton kernels want a GPU")
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction as Fused

    def head(hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor) -> tuple[Tensor, None]:
        found = Fused.apply(hidden_NH, weight_VH, target_N, None, None, -100, 0.0, 0.0, "none")
        return -(found[0] if isinstance(found, tuple) else found), None

    return head


def verl_torch(device: str) -> Head:
    """verl's FusedLinearForPPO with its chunk of 512 tokens."""
    fused = verl_module("experimental.torch_functional").FusedLinearForPPO()

    def head(hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        logp_N, entropy_N = fused(hidden_NH[None], weight_VH, target_N[None])
        return logp_N[0], entropy_N[0]

    return head


def verl_triton(device: str) -> Head:
    """verl's Triton linear_cross_entropy."""
    if device != "cuda":
        raise RuntimeError("its Triton kernels want a GPU")
    fused = verl_module("kernel.linear_cross_entropy").linear_cross_entropy

    def head(hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        logp_N, entropy_N = fused(hidden_NH, weight_VH, target_N, 1.0, "none")
        return logp_N, entropy_N

    return head


def verl_module(name: str) -> ModuleType:
    """Return a module of verl.utils without running verl's own imports, which ask for ray. Raises ImportError."""
    spec = importlib.util.find_spec("verl") if "verl" not in sys.modules else sys.modules["verl"].__spec__
    if spec is None or spec.origin is None:
        raise ImportError("verl is not installed: pip install --no-deps verl==0.9.1")
    folder = Path(spec.origin).parent
    for full, path in (("verl", folder), ("verl.utils", folder / "utils")):
        bare = ModuleType(full)
        bare.__path__, bare.__spec__ = [str(path)], spec
        sys.modules.setdefault(full, bare)
    return importlib.import_module(f"verl.utils.{name}")


CONTENDERS: dict[str, Callable[[str], Head]] = {
    "archer": archer, "eager": eager, "compile": compiled, "trl": trl, "verl-torch": verl_torch,
    "verl-triton": verl_triton, "liger": liger, "liger-torch": liger_torch, "liger-selective": liger_selective,
    "liger-triton": liger_triton,
}  # fmt: skip
# Those that have nothing of their own on a device: Liger's dispatch falls back to torch off Hopper.
SKIPPED = {"cpu": ("liger",), "cuda": ()}
