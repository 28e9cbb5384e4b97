"""One `vllm serve` replica: its calls, each with a deadline, and the checks before the first step."""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from archer.engines.vllm.checks import INSTALL, OLDEST, numbers
from archer.errors import EngineError, ModelError, UserError
from archer.types import Json

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
CONNECT_SECONDS = 10.0
TOKENS = re.compile(r"^vllm:generation_tokens_total(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)


def headers() -> dict[str, str]:
    """Return the headers of every request, with the key for `vllm serve --api-key` if VLLM_API_KEY is set."""
    key = os.environ.get("VLLM_API_KEY")
    return {"User-Agent": "archer", **({"Authorization": f"Bearer {key}"} if key else {})}


@dataclass
class ServerControl:
    """Calls to one server.

    - ``url``: without a path
    - ``seconds``: deadline of a call
    - ``about``: what :meth:`WorkerExtension.archer_describe` returned
    - ``version``: vLLM's version
    - ``world``: number of the server's worker processes
    - ``at``: the latest call, for errors
    """

    url: str
    seconds: float
    about: dict[str, Json] = field(default_factory=dict)
    version: str = ""
    world: int = 1
    at: str = ""

    def get(self, path: str) -> Any:
        """Return the JSON of a page. Raises EngineError."""
        return self._request("GET", path, None, min(self.seconds, CONNECT_SECONDS))

    def post(self, path: str, body: Json = None, seconds: float | None = None) -> Any:
        """Make a call and return the JSON of its reply. Raises EngineError."""
        return self._request("POST", path, body, seconds or self.seconds)

    def worker(self, method: str, **arguments: Json) -> list[Any]:
        """Call a method in every worker process; return their results. Raises EngineError."""
        body = {"method": method, "kwargs": arguments, "timeout": self.seconds}
        answer = self.post("/collective_rpc", body)
        return list(answer["results"]) if isinstance(answer, dict) and "results" in answer else []

    def _request(self, method: str, path: str, body: Json, seconds: float) -> Any:
        self.at = f"{method} {path}"
        started = time.monotonic()
        limit = httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))
        try:
            with httpx.Client(timeout=limit, headers=headers(), trust_env=False) as client:
                reply = client.request(method, f"{self.url}{path}", json=body)
        except httpx.HTTPError as error:
            raise EngineError(self.says(f"{type(error).__name__}: {error}", started)) from error
        if reply.status_code != 200:
            text = " ".join(reply.text.split())[:300]
            raise EngineError(self.says(f"status {reply.status_code}: {text}", started))
        try:
            return reply.json() if reply.content else None
        except ValueError as error:
            raise EngineError(self.says(f"no JSON: {reply.text[:80]!r}", started)) from error

    def says(self, why: str, started: float) -> str:
        """Return an error message: the server, the call, why it failed, after how long."""
        return f"{self.url}: {self.at}: {why} (after {time.monotonic() - started:.1f} of {self.seconds:.0f} s)"


@dataclass(frozen=True)
class ExpectedServer:
    """The properties that a server must have: ``shape`` is :data:`SHAPE`'s; ``command`` starts such a server."""

    shape: dict[str, Json]
    vocabulary: str
    dtype: str
    context: int | None
    command: str


def check_server(server: ServerControl, expected: ExpectedServer) -> None:
    """Read a server's properties and compare them with ``expected``.

    Raises EngineError if it does not answer, UserError for another version or other options, ModelError for
    another model or vocabulary.
    """
    try:
        reply = server.get("/version")
    except EngineError as error:
        raise EngineError(f"rollout.vllm.servers: {error}; start it: {expected.command}") from error
    server.version = str(reply.get("version", "")) if isinstance(reply, dict) else ""
    if not server.version or numbers(server.version)[:2] < OLDEST:
        raise UserError(
            f"rollout.vllm.servers: {server.url}: vLLM {server.version or 'of no known version'}; needs 0.28 or newer: "
            f"{INSTALL}"
        )
    try:
        server.about = server.worker("archer_describe")[0]
        server.world = int(server.get("/get_world_size")["world_size"])
    except (EngineError, LookupError, TypeError) as error:
        raise UserError(
            f"rollout.vllm.servers: {server.url}: was not started for training ({error}); start it: {expected.command}"
        ) from error
    check_properties(server, expected)


def check_properties(server: ServerControl, expected: ExpectedServer) -> None:
    """Raise ModelError or UserError if a server's properties are not the expected ones."""
    about = server.about
    own = {name: value for name, value in about["shape"].items() if expected.shape.get(name) != value}
    if own:
        wanted = {name: expected.shape.get(name) for name in own}
        raise ModelError(f"rollout.vllm.servers: {server.url}: serves a model with {own}, model.path has {wanted}")
    if about["vocabulary"] != expected.vocabulary:
        raise ModelError(
            f"rollout.vllm.servers: {server.url}: serves {about['model']} with another vocabulary "
            f"({about['vocabulary']}) than model.path ({expected.vocabulary}); serve the same model"
        )
    pairs = {"dtype": expected.dtype, "logprobs": "processed_logprobs"}
    wrong = {name: (about[name], right) for name, right in pairs.items() if about[name] != right}
    if expected.context and about["context"] < expected.context:
        wrong["context"] = (about["context"], str(expected.context))
    if wrong:
        told = ", ".join(f"{name} {found!r} where {right!r} is needed" for name, (found, right) in wrong.items())
        raise UserError(f"rollout.vllm.servers: {server.url}: has {told}; start it: {expected.command}")


def drawn_tokens(metrics: str) -> float:
    """Return how many tokens a server has sampled so far, from the text of its metrics page."""
    return sum(float(count) for count in TOKENS.findall(metrics))
