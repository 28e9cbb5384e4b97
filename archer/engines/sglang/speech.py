"""What an SGLang server is asked, and what it answers; :mod:`archer.engines.sglang` says where that is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import httpx
from pydantic import Field, TypeAdapter

from archer.engines.servers.call import EngineCall
from archer.engines.servers.pool import Ask, SampledReply
from archer.types import Json

SEED_MASK = (1 << 31) - 1  # a server keeps seeds as 32-bit integers


@dataclass(frozen=True)
class FinishReason:
    """Why a response ended: "stop", "length" or "abort"."""

    type: str


@dataclass(frozen=True)
class MetaInfo:
    """What a reply tells of its response; a log-prob comes with the token's id and its text or null."""

    finish_reason: FinishReason
    weight_version: str | None = None
    output_token_logprobs: tuple[Annotated[tuple[float, int, Any], Field()], ...] | None = None


@dataclass(frozen=True)
class NativeReply:
    """The reply of ``/generate``."""

    meta_info: MetaInfo
    output_ids: tuple[int, ...] | None = None


REPLY = TypeAdapter(NativeReply)


@dataclass(frozen=True)
class SglangSpeech:
    """How an SGLang server is asked; see :class:`archer.engines.servers.pool.ServerSpeech`."""

    path: str = "/generate"

    def body(self, call: EngineCall, number: int) -> Json:
        """Return what asks for one response, explicit wherever a model's own defaults would apply."""
        chosen = call.sampling
        return {
            "input_ids": list(call.prompt(number)),
            "sampling_params": {
                "temperature": chosen.temperature, "top_p": chosen.top_p, "top_k": chosen.top_k or -1, "min_p": 0.0,
                "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
                "max_new_tokens": chosen.max_tokens, "stop_token_ids": list(call.coder.stops),
                "sampling_seed": call.seed(number) & SEED_MASK, "skip_special_tokens": False,
            },
            "return_logprob": call.queue.logps, "stream": False,
        }  # fmt: skip

    def read(self, reply: httpx.Response, wanted: bool) -> SampledReply:
        """Return what a reply holds. Raises ValueError where it is something else."""
        found = REPLY.validate_python(reply.json())
        meta = found.meta_info
        tokens, logps = found.output_ids or (), tuple[float, ...]()
        if wanted:
            told = meta.output_token_logprobs or ()
            tokens, logps = tuple(token for _, token, _ in told) or tokens, tuple(logp for logp, _, _ in told)
        labels = () if meta.weight_version is None else (meta.weight_version,)
        return SampledReply(tokens, logps, meta.finish_reason.type, labels)

    async def sampled(self, ask: Ask) -> float | None:
        """Return None: a response's tokens are counted when it ends."""
        return None

    async def label(self, ask: Ask) -> str:
        """Return the version label of a server's weights."""
        return str((await ask("/get_model_info")).json().get("weight_version"))
