"""What vLLM is asked, in its child process and over HTTP, and what its servers answer."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from pydantic import TypeAdapter

from archer.engines.servers.call import EngineCall
from archer.engines.servers.pool import Ask, SampledReply
from archer.engines.vllm.control import drawn_tokens
from archer.types import Json


@dataclass(frozen=True)
class TokenLogprob:
    """The log-prob of one token."""

    logprob: float


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probs by position."""

    content: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True)
class VersionSpan:
    """The version label of the weights that sampled a run of tokens."""

    version: str = ""


@dataclass(frozen=True)
class GeneratedChoice:
    """One response in the reply of :attr:`VllmSpeech.path`."""

    finish_reason: str | None
    token_ids: tuple[int, ...]
    logprobs: TokenLogprobs | None = None
    weight_versions: tuple[VersionSpan, ...] | None = None


@dataclass(frozen=True)
class GenerateReply:
    """The reply of :attr:`VllmSpeech.path`."""

    choices: tuple[GeneratedChoice, ...]


REPLY = TypeAdapter(GenerateReply)


def parameters(call: EngineCall, seed: int) -> dict[str, Json]:
    """Return vLLM's sampling parameters of one request, explicit wherever a model's own defaults would apply."""
    chosen = call.sampling
    return {
        "temperature": chosen.temperature, "top_p": chosen.top_p, "top_k": chosen.top_k, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "max_tokens": chosen.max_tokens, "seed": seed, "stop_token_ids": list(call.coder.stops),
        "logprobs": 0 if call.queue.logps else None, "detokenize": False,
    }  # fmt: skip


@dataclass(frozen=True)
class VllmSpeech:
    """How a `vllm serve` is asked; see :class:`archer.engines.servers.pool.ServerSpeech`."""

    path: str = "/inference/v1/generate"

    def body(self, call: EngineCall, number: int) -> Json:
        """Return what asks for one response."""
        return {
            "token_ids": list(call.prompt(number)), "sampling_params": parameters(call, call.seed(number)),
            "stream": False,
        }  # fmt: skip

    def read(self, reply: httpx.Response, wanted: bool) -> SampledReply:
        """Return what a reply holds. Raises ValueError or LookupError where it is something else."""
        choice = REPLY.validate_python(reply.json()).choices[0]
        content = choice.logprobs.content if choice.logprobs else None
        labels = tuple(span.version for span in choice.weight_versions or ())
        return SampledReply(choice.token_ids, tuple(token.logprob for token in content or ()),
                            str(choice.finish_reason), labels)  # fmt: skip

    async def sampled(self, ask: Ask) -> float | None:
        """Return how many tokens a server has sampled so far."""
        return drawn_tokens((await ask("/metrics")).text)

    async def label(self, ask: Ask) -> str:
        """Return the version label of a server's weights."""
        return str((await ask("/weight_info")).json().get("weight_version"))
