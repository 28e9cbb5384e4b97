"""Options of parts that only some recipes use: another engine, several GPUs, an adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, with_config

from archer.recipe.config import STRICT

Positive = Annotated[float, Field(gt=0)]


@with_config(STRICT)
@dataclass(frozen=True)
class VllmSection:
    """Rollouts by vLLM: in this process, or by ``servers`` (URLs of `vllm serve` replicas).

    ``memory`` is the share of a GPU that an engine in process may take, ``sync`` how it gets new weights (auto: the
    fastest that exists), ``seconds`` how long a call may last, or a response may go without a token.
    """

    servers: tuple[str, ...] = ()
    memory: Annotated[float, Field(gt=0, lt=1)] = 0.4
    sync: Literal["auto", "nccl", "ipc", "reload"] = "auto"
    seconds: Positive = 600.0


@with_config(STRICT)
@dataclass(frozen=True)
class DeepSpeedSection:
    """``stage`` of ZeRO, ``offload`` of the optimizer to the CPU, ``seconds`` that a collective call may take."""

    stage: Literal[0, 1, 2, 3] = 2
    offload: bool = False
    seconds: Positive = 1800.0


@with_config(STRICT)
@dataclass(frozen=True)
class LoraSection:
    """A low-rank adapter (arXiv 2106.09685) on linear layers whose names end in one of ``targets`` (none: all)."""

    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Positive = 32.0
    targets: tuple[str, ...] = ()


@with_config(STRICT)
@dataclass(frozen=True)
class CorrectionSection:
    """What is done where engine and policy disagree on a sampled token's probability; w = pi_policy / pi_engine.

    "truncate" weighs by min(w, high) (truncated importance sampling), "mask" by w, 0 above ``high``, "icepop" by w, 0
    outside [low, high] (arXiv 2510.18855). At ``level`` "sequence" w is that of the whole response. The run warns
    where the mean k3 of a step passes ``warn``, and stops where it passes ``stop``.
    """

    kind: Literal["none", "truncate", "mask", "icepop"] = "none"
    level: Literal["token", "sequence"] = "token"
    low: Positive = 0.5
    high: Positive = 2.0
    warn: Positive = 1e-3
    stop: Positive = 0.1
