"""One `vllm serve` replica: its calls, each with a deadline, and the checks before the first step."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from archer.engines.servers.client import ServerClient
from archer.engines.vllm.checks import INSTALL, OLDEST, numbers
from archer.errors import EngineError, ModelError, UserError
from archer.types import Json

TOKENS = re.compile(r"^vllm:generation_tokens_total(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)


@dataclass
class ServerControl(ServerClient):
    """Calls to one `vllm serve`, with the key for its ``--api-key`` if VLLM_API_KEY is set.

    - ``about``: what :meth:`WorkerExtension.archer_describe` returned
    - ``version``: vLLM's version
    - ``world``: number of the server's worker processes
    """

    key: ClassVar[str] = "VLLM_API_KEY"

    about: dict[str, Json] = field(default_factory=dict)
    version: str = ""
    world: int = 1

    def worker(self, method: str, **arguments: Json) -> list[Any]:
        """Call a method in every worker process; return their results. Raises EngineError."""
        body = {"method": method, "kwargs": arguments, "timeout": self.seconds}
        answer = self.post("/collective_rpc", body)
        return list(answer["results"]) if isinstance(answer, dict) and "results" in answer else []


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
