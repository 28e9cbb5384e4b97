"""The options that start a vLLM: the same for the engine in a child process and for `vllm serve`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from transformers import PretrainedConfig

from archer.engines.spec import EngineSpec
from archer.models.loading import model_path
from archer.recipe.sections import ModelSection
from archer.types import Json

Sync = Literal["nccl", "ipc", "reload"]
EXTENSION = "archer.engines.vllm.extension.WorkerExtension"
PREFILL_TOKENS = 8192  # prompt tokens that one step may process
BLOCK = 128  # tokens per page of the key-value cache in the CPU build; a GPU's pages are smaller


@dataclass(frozen=True)
class ServeCommand:
    """A command line and the environment variables it needs."""

    environment: Mapping[str, str]
    words: tuple[str, ...]

    def __str__(self) -> str:
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*settings, shlex.join(self.words)])


def options(spec: EngineSpec) -> dict[str, Json]:
    """Return vLLM's options by their Python names. Raises ModelError if the model does not exist."""
    section, rollout = spec.model.section, spec.rollout
    chosen: dict[str, Json] = {
        "model": model_path(section.path), "revision": section.revision, "dtype": spec.dtype, "seed": 0,
        "max_model_len": spec.model.context, "max_num_seqs": rollout.max_concurrency,
        "logprobs_mode": "processed_logprobs", "max_logprobs": 1, "generation_config": "vllm",
        "skip_tokenizer_init": True, "gpu_memory_utilization": rollout.vllm.memory, "worker_extension_cls": EXTENSION,
    }  # fmt: skip
    return {name: value for name, value in chosen.items() if value is not None}


def on_cpu(spec: EngineSpec, memory: int) -> dict[str, Json]:
    """Return the options that vLLM's CPU build needs in addition; ``memory`` is the machine's, in bytes.

    Nothing is compiled: compiled code may keep the packed weights from before an update. The cache is as large as all
    rows may need, but at most the recipe's share of the memory.
    """
    size = 2 if spec.bf16 else 4
    context = spec.model.context or 4096
    rows = spec.rollout.max_concurrency * -(-context // BLOCK) * BLOCK * per_token(spec.model.config) * size
    return {
        "enforce_eager": True, "kv_cache_memory_bytes": min(rows, int(memory * spec.rollout.vllm.memory)),
        # A chunked prompt samples a token that is discarded, and the CPU's random streams cannot be rewound.
        "enable_chunked_prefill": False, "max_num_batched_tokens": max(context, PREFILL_TOKENS),
    }  # fmt: skip


def per_token(config: PretrainedConfig) -> int:
    """Return how many numbers the key-value cache holds per token."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size)


def serve_command(
    spec: EngineSpec, sync: Sync, port: int = 8000, gpus: int = 1, cpu: Mapping[str, Json] | None = None
) -> ServeCommand:
    """Return the `vllm serve` that :mod:`archer.engines.vllm.servers` expects, on ``gpus`` GPUs.

    ``sync`` is how the server gets new weights; ``cpu`` holds the options of :func:`on_cpu` for one without a GPU.
    """
    chosen = {**options(spec), **(cpu or {}), "port": port, "tokens_only": True}  # token ids in, token ids out
    if gpus > 1:
        chosen["tensor_parallel_size"] = gpus
    if sync != "reload":
        chosen["weight_transfer_config"] = {"backend": sync}
    if cpu:  # the CPU build's `vllm` command fails on a package that is not installed
        words = ["python", "-m", "vllm.entrypoints.openai.api_server"]
    else:
        words = ["vllm", "serve", str(chosen.pop("model"))]
    for name, value in chosen.items():
        words.append(f"--{'no-' if value is False else ''}{name.replace('_', '-')}")
        if not isinstance(value, bool):
            words.append(json.dumps(value) if isinstance(value, dict) else str(value))
    return ServeCommand(environment(spec.model.section, sync), tuple(words))


def environment(model: ModelSection, sync: Sync) -> dict[str, str]:
    """Return the environment variables that a vLLM needs."""
    variables = {"VLLM_SERVER_DEV_MODE": "1"}  # the calls that move weights
    if sync == "ipc":
        variables["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # handles of GPU memory travel pickled
    if model.context:
        variables["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
    return variables
