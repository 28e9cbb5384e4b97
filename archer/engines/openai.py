"""Any OpenAI-compatible server: one chat completion a sample, each with its own seed. The only door to ``openai``.

The server applies the chat template, with the recipe's switches. Temperature, top-p, length and seed are always
sent. vLLM and SGLang would fill in the rest from the model's own generation_config.json, so they are also told
top-k, min-p and repetition penalty; another server's defaults for these stay its own, and ``describe`` says which
were sent. Whether a seed is honoured is the server's affair: vLLM does, whatever else it is
asked at the same time; `transformers serve` only for one request at a time (``rollout.max_concurrency`` 1).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import openai

from archer.engines.base import Completion, OnCompletion, sample_seed
from archer.engines.replies import CARDS, COMPLETION, ChatCompletion, shaped
from archer.errors import ArcherError, DataError, EngineError, ModelError, UserError
from archer.models.prompts import messages
from archer.types import Json, Problem, Request, Sampling, Stop

STOPS: Mapping[str, Stop] = {"stop": "end", "length": "length"}
TELL_ALL = ("vllm", "sglang")  # owners, by /v1/models, that take more than OpenAI's own parameters
RETRIES = 10  # with the client's growing pauses: about a minute of 429, 5xx or no connection
TIMEOUT = openai.Timeout(3600.0, connect=20.0)  # seconds for a whole response, which may be 32,000 tokens long
HEADERS = {"User-Agent": "archer"}


@dataclass(frozen=True)
class ServedModel:
    """What a server says of the model it serves."""

    url: str
    model: str
    owner: str
    root: str = ""
    version: str = ""
    context: int | None = None

    @property
    def weights(self) -> str:
        """The name that stands for a sha256, which no server tells."""
        return f"served: {self.model}" + (f" ({self.root})" if self.root and self.root != self.model else "")


@dataclass(frozen=True)
class OpenAIGenerator:
    """A :class:`~archer.engines.base.Generator`; at most ``slots`` requests are under way."""

    served: ServedModel
    switches: Mapping[str, Json] = field(default_factory=dict)
    slots: int = 64
    retries: int = RETRIES

    def complete(self, asks: Sequence[Request], sampling: Sampling, answered: OnCompletion) -> None:
        """Request every sample; see :class:`archer.engines.base.Generator`.

        Raises ModelError and DataError for requests that the server refuses, EngineError for one that it still
        fails to answer after every retry, or whose answer is no response.
        """
        rows = ((ask.problem, sample, ask.seed) for ask in asks for sample in ask.samples)
        try:
            asyncio.run(self._all(rows, min(self.slots, sum(len(ask.samples) for ask in asks)), sampling, answered))
        except BaseExceptionGroup as group:
            raise first(group) from None

    def prompt(self, problem: Problem) -> Json:
        """Return the messages, and the switches of the template that the server applies."""
        return said(problem, self.switches)

    def describe(self) -> Mapping[str, Json]:
        """Return the name, the server, and which parameters go beyond OpenAI's own."""
        return {"name": "openai", "url": self.served.url, "sent": sorted(self._more(Sampling()))}

    async def _all(
        self, rows: Iterable[tuple[Problem, int, int]], side: int, sampling: Sampling, answered: OnCompletion
    ) -> None:
        async def work(client: openai.AsyncOpenAI) -> None:
            for problem, sample, seed in rows:  # one iterator, from which every worker takes its next
                answered(await self._one(client, problem, sample, sample_seed(seed, problem.id, sample), sampling))

        key = os.environ.get("OPENAI_API_KEY") or "none"
        async with openai.AsyncOpenAI(
            base_url=self.served.url, api_key=key, max_retries=self.retries, timeout=TIMEOUT, default_headers=HEADERS
        ) as client, asyncio.TaskGroup() as group:  # fmt: skip
            for _ in range(side):
                group.create_task(work(client))

    async def _one(
        self, client: openai.AsyncOpenAI, problem: Problem, sample: int, seed: int, sampling: Sampling
    ) -> Completion:
        where = f"{self.served.url}: problem {problem.id}, sample {sample}"
        more = self._more(sampling)
        if self.switches:
            more["chat_template_kwargs"] = dict(self.switches)
        try:
            reply = await client.chat.completions.with_raw_response.create(
                model=self.served.model, messages=messages(problem),  # type: ignore[arg-type]
                temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens,
                seed=seed, extra_body=more or None,
            )  # fmt: skip
        except openai.APIError as error:
            raise failure(where, error) from error
        done = shaped(where, reply.text, COMPLETION, "a chat completion")
        return read(where, done, Completion(problem, sample, seed, "", 0, "error"))

    def _more(self, sampling: Sampling) -> dict[str, Json]:
        if self.served.owner in TELL_ALL:
            return {"top_k": sampling.top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0}
        return {"top_k": sampling.top_k} if sampling.top_k else {}


def said(problem: Problem, switches: Mapping[str, Json]) -> Json:
    """Return what :meth:`OpenAIGenerator.prompt` returns, for readers of stored samples that ask no server."""
    return {"messages": messages(problem), "switches": dict(switches)}


def read(where: str, done: ChatCompletion, asked: Completion) -> Completion:
    """Return the answer in a completion. Raises EngineError when it is not a whole response, or not counted."""
    choice = done.choices[0] if done.choices else None
    stop = STOPS.get(choice.finish_reason or "") if choice else None
    if choice is None or stop is None:
        reason = choice.finish_reason if choice else "no choice"
        raise EngineError(f"{where}: ended with {reason!r}, expected one of {', '.join(STOPS)}: it is not scored")
    if done.usage is None:
        raise EngineError(f"{where}: the server does not say how many tokens it drew (`usage`)")
    text, thought = choice.message.content or "", choice.message.reasoning_content or choice.message.reasoning
    if thought:  # a server that takes the thinking out of the text: graders look for its end
        text = f"<think>{thought}</think>{text}" if text else f"<think>{thought}"
    text = text.encode("utf-8", "replace").decode()  # a half character, cut by the token limit, is none
    return Completion(asked.problem, asked.sample, asked.seed, text, done.usage.completion_tokens, stop)


def failure(where: str, error: openai.APIError) -> ArcherError:
    """Return our error for the client's."""
    told = error.message[:300]  # which may be a whole page
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return UserError(f"{where}: refused: {told}; set OPENAI_API_KEY")
    if isinstance(error, openai.NotFoundError):
        return ModelError(f"{where}: not found: {told}; check model name and URL (it ends in /v1)")
    if isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError):
        return DataError(
            f"{where}: the server refuses the request: {told}; see --max-tokens, model.chat_template_kwargs"
        )
    return EngineError(f"{where}: no answer: {told}; the same command goes on with what is missing")


def first(group: BaseExceptionGroup) -> BaseException:
    """Return one error of a group: that the user stopped us, else whichever of several workers failed first."""
    own = [first(one) if isinstance(one, BaseExceptionGroup) else one for one in group.exceptions]
    return min(own, key=lambda error: isinstance(error, Exception))


def find_served(url: str, model: str) -> ServedModel:
    """Ask a server what it says of a model.

    Raises ModelError when it does not serve that name, EngineError when it does not answer, or with nonsense.
    """
    url = url.rstrip("/")  # one server, one name
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError(f"--server {url}: expected a URL such as http://localhost:8000/v1")
    if "@" in parts.netloc:
        raise UserError("--server: leave name and password out of the URL, which is recorded; set OPENAI_API_KEY")
    key = os.environ.get("OPENAI_API_KEY") or "none"
    with openai.OpenAI(base_url=url, api_key=key, default_headers=HEADERS, timeout=20.0) as client:
        try:
            reply = client.models.with_raw_response.list()
        except openai.APIError as error:
            raise failure(url, error) from error
        cards = {card.id: card for card in shaped(f"{url}/models", reply.text, CARDS, "a list of models").data}
        if not cards:  # a server that lists none is taken at its word when it answers
            return ServedModel(url, model, "")
        if model not in cards:
            raise ModelError(f"{url}: serves no {model!r}; it names {', '.join(sorted(cards)[:8])}")
        card = cards[model]
        version = ask_version(client, url) if card.owned_by in TELL_ALL else ""
    return ServedModel(url, model, card.owned_by or "", card.root or "", version, card.max_model_len)


def ask_version(client: openai.OpenAI, url: str) -> str:
    """Return the version that vLLM tells beside its /v1, nothing where it does not."""
    try:
        told: Any = client.get(url.rstrip("/").removesuffix("/v1") + "/version", cast_to=object)
        return str(told.get("version", "")) if isinstance(told, dict) else ""
    except (openai.APIError, ValueError):  # no such page, or no JSON
        return ""
