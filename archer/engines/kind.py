"""What is known of an engine before it is opened: how to open it, the memory it takes, the servers to start first.

An engine of one's own, named as ``./file.py:NAME`` in ``rollout.engine``, is an :class:`EngineKind`, or a function
that opens an engine: all else of it is then "not known".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archer.distributed import Ranks
from archer.engines.base import Engine
from archer.engines.spec import EngineSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GIB = 1 << 30


@dataclass(frozen=True)
class MemoryPart:
    """Bytes on one GPU while the run starts, samples and updates; ``note`` tells what they hold."""

    name: str
    starting: float
    sampling: float
    updating: float
    note: str = ""


@dataclass(frozen=True)
class EngineLoad:
    """What an engine has to do beside one rank, of which model."""

    parameters: int
    """Of the model."""
    position: int
    """Elements a token takes in the key-value cache."""
    vocabulary: int
    row: int
    """Tokens of the longest prompt with the longest response."""
    context: int
    """Tokens that prompt and response may have together."""
    slots: int
    """Responses that decode together."""
    gpu: float
    """Bytes of a GPU."""
    deepspeed: bool = False
    """Whether DeepSpeed trains: then the layers' weights are bfloat16 where the recipe says so."""


@dataclass(frozen=True)
class EngineMemory:
    """What an engine takes of one GPU, and of its machine's memory."""

    parts: tuple[MemoryPart, ...]
    cache: int
    """Tokens that its key-value cache holds."""
    host: float = 0.0
    """Bytes of the machine's memory while it rests."""
    faults: tuple[str, ...] = ()
    """Why it cannot run so, if it cannot."""


@dataclass(frozen=True)
class EngineChanges:
    """The keys of a recipe that change what an engine takes of a trainer's GPU; empty: there is no such key."""

    share: str = ""
    """The share of a GPU that the engine takes, between 0 and 1."""
    rows: str = ""
    """The number of rows that decode together."""
    servers: str = ""
    """The URLs of servers that sample in place of an engine beside each rank."""
    instead: str = ""
    """Another engine, which may take less."""


@dataclass(frozen=True)
class ServerStart:
    """A server of the recipe: the machine it runs on, and the command that starts it."""

    host: str
    command: str


@dataclass(frozen=True)
class EngineKind:
    """An engine as a recipe names it."""

    open: Callable[[EngineSpec, PreTrainedModel | None, Ranks], Engine]
    """Opens it. The model is the trainer's own module where the engine may sample from it, else None."""
    differs: bool = True
    """Whether its log-probs may be others than the policy's, as those of other kernels are."""
    memory: Callable[[EngineSpec, EngineLoad], EngineMemory] | None = None
    """Tells the planner what it takes; None: not known."""
    launch: Callable[[EngineSpec], tuple[ServerStart, ...]] | None = None
    """Tells what is started before a run; None: nothing."""
    changes: EngineChanges = EngineChanges()
    """What the planner may change where memory is short."""
    options: bool = True
    """Whether it reads ``rollout.engine_options``; a shipped engine has a section of its own."""
