"""Any OpenAI-compatible server: one chat completion per sample, each with its own seed.

The server applies the chat template, with the recipe's switches. Temperature, top-p, length and seed are always
sent. vLLM and SGLang would fill in the rest from the model's own generation_config.json, so they are also told
top-k, min-p and repetition penalty; another server's defaults for these stay its own, and ``describe`` says which
were sent. Whether a seed is honoured is the server's affair: vLLM does, whatever else it is
asked at the same time; `transformers serve` only for one request at a time (``rollout.max_concurrency`` 1).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import openai

from archer.engines.base import seed_of
from archer.engines.queue import RequestQueue
from archer.engines.replies import CARDS, COMPLETION, ChatCompletion, parse_reply
from archer.errors import ArcherError, DataError, EngineError, ModelError, UserError
from archer.models.prompts import messages
from archer.types import Json, Problem, Request, Rollout, Sampling, Stop

STOPS: Mapping[str, Stop] = {"stop": "end", "length": "length"}
TELL_ALL = ("vllm", "sglang")  # values of `owned_by` in /v1/models whose servers accept more than OpenAI's parameters
RETRIES = 10  # with the client's back-off: covers about a minute of 429, 5xx or no connection
TIMEOUT = openai.Timeout(3600.0, connect=20.0)  # seconds for a whole response, which may be 32,000 tokens long
HEADERS = {"User-Agent": "archer"}
TICK = 0.05  # seconds between two questions for further requests, while rows are free


@dataclass(frozen=True)
class ServedModel:
    """A model as its server describes it; ``context`` is in tokens."""

    url: str
    model: str
    owner: str
    root: str = ""
    version: str = ""
    context: int | None = None

    @property
    def weights(self) -> str:
        """A name in place of the weights' sha256, which servers do not report."""
        return f"served: {self.model}" + (f" ({self.root})" if self.root and self.root != self.model else "")


@dataclass(frozen=True)
class OpenAIGenerator:
    """A :class:`~archer.engines.base.Generator` over a server; at most ``slots`` requests run at a time."""

    served: ServedModel
    switches: Mapping[str, Json] = field(default_factory=dict)
    slots: int = 64
    retries: int = RETRIES

    def generate(self, queue: RequestQueue, sampling: Sampling) -> Iterator[Rollout]:
        """Yield a rollout without token ids for every request; see :class:`archer.engines.base.Generator`.

        Raises ModelError or DataError if the server refuses a request, and EngineError if a request fails after all
        retries or the reply is not a whole response.
        """
        tasks: dict[asyncio.Task[Rollout], int] = {}  # with the number of each request
        with asyncio.Runner() as runner:
            client = self._client()
            try:
                while done := runner.run(self._step(client, queue, sampling, tasks)):
                    for task in done:
                        yield task.result()
            finally:
                runner.run(end(client, tasks))

    def prompt(self, problem: Problem) -> Json:
        """Return the messages and the chat template switches that the server applies."""
        return prompt_record(problem, self.switches)

    def describe(self) -> Mapping[str, Json]:
        """Return the name, the server's URL, and which parameters beyond OpenAI's own are sent."""
        return {"name": "openai", "url": self.served.url, "sent": sorted(self._more(Sampling()))}

    def _client(self) -> openai.AsyncOpenAI:
        key = os.environ.get("OPENAI_API_KEY") or "none"
        return openai.AsyncOpenAI(
            base_url=self.served.url, api_key=key, max_retries=self.retries, timeout=TIMEOUT, default_headers=HEADERS
        )

    async def _step(
        self,
        client: openai.AsyncOpenAI,
        queue: RequestQueue,
        sampling: Sampling,
        tasks: dict[asyncio.Task[Rollout], int],
    ) -> list[asyncio.Task[Rollout]]:
        """Send what the queue hands out; return the requests that ended, successes first, or [] if none is left."""
        done: set[asyncio.Task[Rollout]] = set()
        while not done:
            for request in queue.take(self.slots - len(tasks), not tasks):
                tasks[asyncio.create_task(self._one(client, request, sampling))] = max(tasks.values(), default=0) + 1
            if not tasks:
                return []
            asks = queue.growing and len(tasks) < self.slots
            done, _ = await asyncio.wait(tasks, timeout=TICK if asks else None, return_when=asyncio.FIRST_COMPLETED)
        ended = sorted(done, key=lambda task: (task.exception() is not None, tasks[task]))
        for task in ended:
            del tasks[task]
        return ended

    async def _one(self, client: openai.AsyncOpenAI, request: Request, sampling: Sampling) -> Rollout:
        where = f"{self.served.url}: problem {request.problem.id}, sample {request.sample}"
        more = self._more(sampling)
        if self.switches:
            more["chat_template_kwargs"] = dict(self.switches)
        try:
            reply = await client.chat.completions.with_raw_response.create(
                model=self.served.model, messages=messages(request.problem),  # type: ignore[arg-type]
                temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens,
                seed=seed_of(request), extra_body=more or None,
            )  # fmt: skip
        except openai.APIError as error:
            raise failure(where, error) from error
        done = parse_reply(where, reply.text, COMPLETION, "a chat completion")
        return read(where, done, request)

    def _more(self, sampling: Sampling) -> dict[str, Json]:
        if self.served.owner in TELL_ALL:
            return {"top_k": sampling.top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0}
        return {"top_k": sampling.top_k} if sampling.top_k else {}


def prompt_record(problem: Problem, switches: Mapping[str, Json]) -> Json:
    """Return the value of :meth:`OpenAIGenerator.prompt` without a server, to look up stored samples."""
    return {"messages": messages(problem), "switches": dict(switches)}


async def end(client: openai.AsyncOpenAI, tasks: Mapping[asyncio.Task[Rollout], int]) -> None:
    """Cancel the requests under way, and close the connections."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


def read(where: str, reply: ChatCompletion, request: Request) -> Rollout:
    """Return the rollout of a reply: text, number of tokens and stop. Raises EngineError if one is missing."""
    choice = reply.choices[0] if reply.choices else None
    stop = STOPS.get(choice.finish_reason or "") if choice else None
    if choice is None or stop is None:
        reason = choice.finish_reason if choice else "no choice"
        raise EngineError(f"{where}: ended with {reason!r}, expected one of {', '.join(STOPS)}: it is not scored")
    if reply.usage is None:
        raise EngineError(f"{where}: the server does not say how many tokens it drew (`usage`)")
    text, thought = choice.message.content or "", choice.message.reasoning_content or choice.message.reasoning
    if thought:  # graders look for the end of the thinking, which some servers take out of the text
        text = f"<think>{thought}</think>{text}" if text else f"<think>{thought}"
    text = text.encode("utf-8", "replace").decode()  # the token limit may cut a character in half
    return Rollout.of_text(
        request.problem, text, stop, sample=request.sample, seed=seed_of(request), counted=reply.usage.completion_tokens
    )


def failure(where: str, error: openai.APIError) -> ArcherError:
    """Return the Archer error for one of the client's."""
    message = error.message[:300]  # it may be a whole page
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return UserError(f"{where}: refused: {message}; set OPENAI_API_KEY")
    if isinstance(error, openai.NotFoundError):
        return ModelError(f"{where}: not found: {message}; check model name and URL (it ends in /v1)")
    if isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError):
        return DataError(
            f"{where}: the server refuses the request: {message}; see --max-tokens, model.chat_template_kwargs"
        )
    return EngineError(f"{where}: no answer: {message}; the same command goes on with what is missing")


def find_served(url: str, model: str) -> ServedModel:
    """Return what the server at ``url`` says about ``model``.

    Raises UserError for a bad URL, ModelError if the server does not serve that name, and EngineError if it does not
    answer or its reply is malformed.
    """
    url = url.rstrip("/")  # one spelling per server
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
        cards = {card.id: card for card in parse_reply(f"{url}/models", reply.text, CARDS, "a list of models").data}
        if not cards:  # some servers list no models
            return ServedModel(url, model, "")
        if model not in cards:
            raise ModelError(f"{url}: serves no {model!r}; it names {', '.join(sorted(cards)[:8])}")
        card = cards[model]
        version = ask_version(client, url) if card.owned_by in TELL_ALL else ""
    return ServedModel(url, model, card.owned_by or "", card.root or "", version, card.max_model_len)


def ask_version(client: openai.OpenAI, url: str) -> str:
    """Return the version from vLLM's /version, "" if the server has none."""
    try:
        reply: Any = client.get(url.rstrip("/").removesuffix("/v1") + "/version", cast_to=object)
        return str(reply.get("version", "")) if isinstance(reply, dict) else ""
    except (openai.APIError, ValueError):  # no such page, or no JSON
        return ""
