"""Balancing requests over servers: each goes to the least loaded server that has room.

A request lost with its connection is sent again, to another server or to the same one once it is back. The call fails
if a server is away, or samples no token, for longer than the deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError

from archer.engines.vllm.backend import VllmCall, VllmOutput
from archer.engines.vllm.control import CONNECT_SECONDS, ServerControl, drawn_tokens, headers
from archer.errors import EngineError
from archer.types import Rollout

GENERATE = "/inference/v1/generate"
TICK = 0.05  # seconds between two checks of deadlines and for further requests
LOOKS = 5.0  # most seconds between two looks at a server's token count
PROBES = 0.5  # seconds between two checks whether a server is back
TRIES = 5  # of one request that a server answers with status 5xx


class ServerLost(Exception):
    """A request got no reply, for the reason given."""


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
    """One response in the reply of :data:`GENERATE`."""

    finish_reason: str | None
    token_ids: tuple[int, ...]
    logprobs: TokenLogprobs | None = None
    weight_versions: tuple[VersionSpan, ...] | None = None


@dataclass(frozen=True)
class GenerateReply:
    """The reply of :data:`GENERATE`."""

    choices: tuple[GeneratedChoice, ...]


REPLY = TypeAdapter(GenerateReply)


@dataclass
class ServerSlots:
    """One server during a call; times are of ``time.monotonic()``, in seconds.

    - ``room``, ``active``: most requests it may run, and how many it runs
    - ``tokens``: its token count at the last look
    - ``heard``: when it last sampled a token
    - ``down``, ``why``: since when it is away (None: it is up), and the reason
    - ``looked``, ``look``: when it was last looked at, and the look under way
    """

    server: ServerControl
    room: int
    active: int = 0
    tokens: float = -1.0
    heard: float = field(default_factory=time.monotonic)
    down: float | None = None
    why: str = ""
    looked: float = 0.0
    look: asyncio.Task[None] | None = None


class ServerPool:
    """One call: at most ``room`` requests at a time per server, whose weights must have ``label`` ("": any)."""

    def __init__(self, servers: list[ServerControl], room: int, seconds: float, label: str) -> None:
        self.servers = [ServerSlots(server, room) for server in servers]
        self.seconds, self.label = seconds, label
        self.again: deque[int] = deque()  # numbers of requests that a server lost
        self.tries: dict[int, int] = {}
        self.tasks: dict[asyncio.Task[VllmOutput], tuple[ServerSlots, int]] = {}

    def run(self, call: VllmCall) -> Iterator[Rollout]:
        """Sample every request of the call; nothing of it runs here between two rollouts. Raises EngineError."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        timeout = httpx.Timeout(None, connect=min(CONNECT_SECONDS, self.seconds))
        client = httpx.AsyncClient(limits=limits, timeout=timeout, headers=headers(), trust_env=False)
        with asyncio.Runner() as runner:
            try:
                while runner.run(self._fill(client, call)):
                    for task in runner.run(self._wait()):
                        yield from self._settle(task, call)
                    runner.run(self._look(client, call))
            finally:
                runner.run(self._stop(client))

    async def _stop(self, client: httpx.AsyncClient) -> None:
        """Cancel what is under way, and close the connections: servers drop the requests that came over them."""
        under_way = [*self.tasks, *(slots.look for slots in self.servers if slots.look)]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await client.aclose()

    async def _wait(self) -> list[asyncio.Task[VllmOutput]]:
        """Return the requests that ended, waiting at most a tick."""
        if not self.tasks:
            await asyncio.sleep(TICK)
            return []
        done, _ = await asyncio.wait(self.tasks, timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
        return sorted(done, key=lambda task: self.tasks[task][1])

    async def _fill(self, client: httpx.AsyncClient, call: VllmCall) -> bool:
        """Send requests to servers that have room; return whether any is still unfinished."""
        up = [slots for slots in self.servers if slots.down is None]
        free = sum(slots.room - slots.active for slots in up)
        started = time.monotonic()
        numbers = [self.again.popleft() for _ in range(min(free, len(self.again)))]
        numbers += call.take(free - len(numbers), not self.tasks and not numbers and not self.again)
        self._excuse(started)
        for number in numbers:
            slots = min(up, key=lambda slots: slots.active / slots.room)
            if not slots.active:
                slots.heard = time.monotonic()
            slots.active += 1
            self.tasks[asyncio.create_task(self._draw(client, slots.server, number, call))] = slots, number
        return bool(self.tasks or self.again or call.queue.waiting)

    def _settle(self, task: asyncio.Task[VllmOutput], call: VllmCall) -> Iterator[Rollout]:
        """Yield the rollout of a request that ended, or queue the request again if its server lost it."""
        slots, number = self.tasks.pop(task)
        slots.active -= 1
        try:
            rollout = call.finish(task.result())
        except ServerLost as error:
            self._lose(slots, number, str(error))
            return
        started = slots.heard = time.monotonic()
        yield rollout
        self._excuse(started)

    def _lose(self, slots: ServerSlots, number: int, why: str) -> None:
        self.again.append(number)
        self.tries[number] = self.tries.get(number, 0) + why.startswith("status")
        if self.tries[number] >= TRIES:
            raise EngineError(f"{slots.server.url}: POST {GENERATE}: failed {TRIES} times for one request: {why}")
        slots.down = slots.down or time.monotonic()
        slots.why = why

    def _excuse(self, since: float) -> None:
        """Exclude from the deadlines the time spent grading or waiting for verdicts since ``since``."""
        spent = time.monotonic() - since
        for slots in self.servers:
            slots.heard += spent
            slots.down = slots.down and slots.down + spent

    async def _look(self, client: httpx.AsyncClient, call: VllmCall) -> None:
        """Check the deadlines, and now and then ask the servers. Raises EngineError past a deadline."""
        now = time.monotonic()
        for slots in self.servers:
            if slots.look is not None and slots.look.done():
                slots.look.result()
                slots.look = None
            busy = slots.active or slots.down is not None
            pause = min(LOOKS if slots.down is None else PROBES, self.seconds / 4)
            if slots.look is None and busy and now - slots.looked >= pause:
                slots.looked = now
                slots.look = asyncio.create_task(self._ask(client, slots))
            since = slots.heard if slots.down is None else slots.down
            if busy and now - since > self.seconds:
                what = "no token" if slots.down is None else f"away ({slots.why})"
                raise EngineError(
                    f"{slots.server.url}: POST {GENERATE}: {what} for {now - since:.1f} of at most {self.seconds:.0f} "
                    f"s; {call.progress()}"
                )

    async def _ask(self, client: httpx.AsyncClient, slots: ServerSlots) -> None:
        """Read a server's token count; if it is away, check whether it is back, and with which weights."""
        try:
            limit = max(1.0, self.seconds / 4)
            if slots.down is None:
                page = await client.get(f"{slots.server.url}/metrics", timeout=limit)
                tokens = drawn_tokens(page.text)
                if tokens != slots.tokens:
                    slots.tokens, slots.heard = tokens, time.monotonic()
                return
            health = await client.get(f"{slots.server.url}/health", timeout=limit)
            if health.status_code != 200:
                return
            info = await client.get(f"{slots.server.url}/weight_info", timeout=limit)
            self._check(slots.server, str(info.json().get("weight_version")))
            slots.down, slots.heard = None, time.monotonic()
        except (httpx.HTTPError, ValueError):
            return

    async def _draw(self, client: httpx.AsyncClient, server: ServerControl, number: int, call: VllmCall) -> VllmOutput:
        """Send one request. Raises ServerLost if the server did not answer, EngineError for an invalid reply."""
        request, parameters = call.running[number], call.parameters(call.seed(number))
        body = {"token_ids": list(call.prompt(number)), "sampling_params": parameters, "stream": False}
        try:
            reply = await client.post(f"{server.url}{GENERATE}", json=body)
        except httpx.HTTPError as error:
            raise ServerLost(f"{type(error).__name__}: {error}") from error
        if reply.status_code >= 500:
            raise ServerLost(f"status {reply.status_code}: {reply.text[:200]}")
        where = f"{server.url}: POST {GENERATE}: problem {request.problem.id}, sample {request.sample}"
        if reply.status_code != 200:
            raise EngineError(f"{where}: status {reply.status_code}: {reply.text[:300]}")
        tokens, logps = self._read(where, server, call.queue.logps, reply)
        return VllmOutput(number, tokens, logps)

    def _read(
        self, where: str, server: ServerControl, wanted: bool, reply: httpx.Response
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Return a reply's tokens, and their log-probs if they are ``wanted``."""
        try:
            choice = REPLY.validate_python(reply.json()).choices[0]
        except (ValidationError, ValueError, LookupError) as error:
            raise EngineError(f"{where}: the reply is not tokens: {str(error)[:200]}") from error
        if choice.finish_reason not in ("stop", "length") or not choice.token_ids:
            raise ServerLost(f"ended with {choice.finish_reason!r} and {len(choice.token_ids)} tokens")
        content = choice.logprobs.content if choice.logprobs else None
        logps = tuple(token.logprob for token in content or ())
        if wanted and len(logps) != len(choice.token_ids):
            raise EngineError(f"{where}: {len(logps)} log-probs for {len(choice.token_ids)} tokens")
        for version_span in choice.weight_versions or ():
            self._check(server, version_span.version)
        return choice.token_ids, logps

    def _check(self, server: ServerControl, label: Any) -> None:
        if self.label and label != self.label:
            raise EngineError(
                f"{server.url}: has the weights {label!r}, not {self.label!r}: it was started again, or another run "
                "uses it; the same command goes on from the last checkpoint"
            )
