"""The native engine as a recipe names it."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from archer.distributed import Ranks
from archer.engines.kind import EngineChanges, EngineKind, EngineLoad, EngineMemory, MemoryPart
from archer.engines.native.engine import NativeEngine
from archer.engines.spec import EngineSpec


def open_native(spec: EngineSpec, model: PreTrainedModel | None, ranks: Ranks) -> NativeEngine:
    """Return the engine over ``model``, which the trainer updates in place; without one it loads its own weights."""
    model_spec = spec.model
    return NativeEngine(
        model_spec.load() if model is None else model, model_spec.tokenizer, model_spec.prompts,
        spec.rollout.max_concurrency, torch.bfloat16 if spec.bf16 else None, model_spec.section.context,
        model_spec.digests, shared=model is not None,
    )  # fmt: skip


def native_memory(spec: EngineSpec, load: EngineLoad) -> EngineMemory:
    """Return what it takes: its cache has a row of maximal length for each slot."""
    tokens = load.slots * load.row
    width, cast = (2, 2 * load.parameters) if spec.bf16 and not load.deepspeed else (4, 0)
    own = 4 * load.parameters if load.deepspeed else 0
    work = 4 * 4 * load.slots * load.vocabulary + 24 * load.slots * spec.rollout.max_tokens
    parts = (
        MemoryPart("engine's weights", 0, own, 0, "the native engine's own copy, in float32"),
        MemoryPart("engine's bfloat16", 0, cast, 0, "the weights cast, for as long as it samples"),
        MemoryPart("KV cache", 0, tokens * load.position * width, 0, f"{load.slots} rows of {load.row:,} tokens"),
        MemoryPart("engine's work", 0, work, 0, "logits, tokens drawn and their log-probs"),
    )
    return EngineMemory(parts, tokens)


NATIVE = EngineKind(
    open_native, differs=False, memory=native_memory, options=False,
    changes=EngineChanges(rows="rollout.max_concurrency", servers="rollout.vllm.servers", instead="vllm"),
)  # fmt: skip
