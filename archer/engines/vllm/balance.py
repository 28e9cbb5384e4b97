"""Requests spread over servers: no more under way at each than it has room for, the least loaded next.

A request that a dying connection lost is made again, by another server or by the same once it is back. A server that
stays away, or draws no token, for longer than the deadline ends the call.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError

from archer.engines.decode_buffer import SampleRow
from archer.engines.vllm.backend import RequestQueue, VllmOutput, VllmSampling, seed_of
from archer.engines.vllm.control import CONNECT_SECONDS, ServerControl, drawn_tokens, headers
from archer.errors import EngineError

GENERATE = "/inference/v1/generate"
TICK = 0.05  # seconds between two looks at the clock, and for further asks
LOOKS = 5.0  # seconds at most between two looks at a server's count of tokens
PROBES = 0.5  # seconds between two looks whether a server is back
TRIES = 5  # of one request that a server answers with a failure of its own


class ServerLost(Exception):
    """A request got no answer; says why."""


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
    """Which weights drew a stretch of tokens."""

    version: str = ""


@dataclass(frozen=True)
class GeneratedChoice:
    """A response."""

    finish_reason: str | None
    token_ids: tuple[int, ...]
    logprobs: TokenLogprobs | None = None
    weight_versions: tuple[VersionSpan, ...] | None = None


@dataclass(frozen=True)
class GenerateReply:
    """What :data:`GENERATE` answers."""

    choices: tuple[GeneratedChoice, ...]


REPLY = TypeAdapter(GenerateReply)


@dataclass
class ServerSlots:
    """One server while a call lasts. ``heard`` is when it last drew a token, ``down`` since when it is away."""

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
    """One call. ``room`` bounds the requests under way at each server, ``label`` names the weights they must have."""

    def __init__(self, servers: list[ServerControl], room: int, seconds: float, label: str) -> None:
        self.berths = [ServerSlots(server, room) for server in servers]
        self.seconds, self.label = seconds, label
        self.again: deque[SampleRow] = deque()
        self.tries: dict[int, int] = {}
        self.tasks: dict[asyncio.Task[VllmOutput], tuple[ServerSlots, SampleRow]] = {}

    async def run(self, queue: RequestQueue, wish: VllmSampling, drawn: Callable[[VllmOutput], None]) -> None:
        """Draw every row of the queue. Raises EngineError."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        timeout = httpx.Timeout(None, connect=min(CONNECT_SECONDS, self.seconds))
        async with httpx.AsyncClient(limits=limits, timeout=timeout, headers=headers(), trust_env=False) as client:
            try:
                while self._fill(client, queue, wish):
                    self._settle(await self._wait(), drawn)
                    self._look(client, queue)
            finally:
                for task in [*self.tasks, *(one.look for one in self.berths if one.look)]:
                    task.cancel()

    async def _wait(self) -> set[asyncio.Task[VllmOutput]]:
        """Return the requests that ended, after a tick at most."""
        if not self.tasks:
            await asyncio.sleep(TICK)
            return set()
        return (await asyncio.wait(self.tasks, timeout=TICK, return_when=asyncio.FIRST_COMPLETED))[0]

    def _fill(self, client: httpx.AsyncClient, queue: RequestQueue, wish: VllmSampling) -> bool:
        """Send rows to servers that have room; say whether anything is left to wait for."""
        up = [one for one in self.berths if one.down is None]
        free = sum(one.room - one.active for one in up)
        started = time.monotonic()
        rows = [self.again.popleft() for _ in range(min(free, len(self.again)))]
        rows += queue.take(free - len(rows), not self.tasks and not rows and not self.again)
        self._excuse(started)
        for row in rows:
            berth = min(up, key=lambda one: one.active / one.room)
            if not berth.active:
                berth.heard = time.monotonic()
            berth.active += 1
            self.tasks[asyncio.create_task(self._draw(client, berth.server, row, wish))] = berth, row
        return bool(self.tasks or self.again or queue.waiting)

    def _settle(self, done: set[asyncio.Task[VllmOutput]], drawn: Callable[[VllmOutput], None]) -> None:
        """Take what was answered, and make again what was lost."""
        started = time.monotonic()
        for task in sorted(done, key=lambda task: self.tasks[task][1].place):
            berth, row = self.tasks.pop(task)
            berth.active -= 1
            try:
                drawn(task.result())
                berth.heard = started
            except ServerLost as error:
                self._lose(berth, row, str(error))
        self._excuse(started)

    def _lose(self, berth: ServerSlots, row: SampleRow, why: str) -> None:
        self.again.append(row)
        self.tries[row.place] = self.tries.get(row.place, 0) + why.startswith("status")
        if self.tries[row.place] >= TRIES:
            raise EngineError(f"{berth.server.url}: POST {GENERATE}: failed {TRIES} times for one request: {why}")
        berth.down = berth.down or time.monotonic()
        berth.why = why

    def _excuse(self, since: float) -> None:
        """Let no server answer for the time that we spent grading or waiting for verdicts."""
        spent = time.monotonic() - since
        for berth in self.berths:
            berth.heard += spent
            berth.down = berth.down and berth.down + spent

    def _look(self, client: httpx.AsyncClient, queue: RequestQueue) -> None:
        """Look at the clock, and now and then at what servers say. Raises EngineError past the deadline."""
        now = time.monotonic()
        for berth in self.berths:
            if berth.look is not None and berth.look.done():
                berth.look.result()
                berth.look = None
            busy = berth.active or berth.down is not None
            pause = min(LOOKS if berth.down is None else PROBES, self.seconds / 4)
            if berth.look is None and busy and now - berth.looked >= pause:
                berth.looked = now
                berth.look = asyncio.create_task(self._ask(client, berth))
            since = berth.heard if berth.down is None else berth.down
            if busy and now - since > self.seconds:
                what = "no token" if berth.down is None else f"away ({berth.why})"
                raise EngineError(
                    f"{berth.server.url}: POST {GENERATE}: {what} for {now - since:.1f} of at most {self.seconds:.0f} "
                    f"s; {queue.progress()}"
                )

    async def _ask(self, client: httpx.AsyncClient, berth: ServerSlots) -> None:
        """Ask a server for its count of tokens, or whether it is back, and with which weights."""
        try:
            limit = max(1.0, self.seconds / 4)
            if berth.down is None:
                page = await client.get(f"{berth.server.url}/metrics", timeout=limit)
                tokens = drawn_tokens(page.text)
                if tokens != berth.tokens:
                    berth.tokens, berth.heard = tokens, time.monotonic()
                return
            health = await client.get(f"{berth.server.url}/health", timeout=limit)
            if health.status_code != 200:
                return
            told = await client.get(f"{berth.server.url}/weight_info", timeout=limit)
            self._check(berth.server, str(told.json().get("weight_version")))
            berth.down, berth.heard = None, time.monotonic()
        except (httpx.HTTPError, ValueError):
            return

    async def _draw(
        self, client: httpx.AsyncClient, server: ServerControl, row: SampleRow, wish: VllmSampling
    ) -> VllmOutput:
        """Request one row. Raises Lost where the server did not answer, EngineError for no such answer."""
        body = {"token_ids": list(row.prompt), "sampling_params": wish.parameters(seed_of(row)), "stream": False}
        try:
            reply = await client.post(f"{server.url}{GENERATE}", json=body)
        except httpx.HTTPError as error:
            raise ServerLost(f"{type(error).__name__}: {error}") from error
        if reply.status_code >= 500:
            raise ServerLost(f"status {reply.status_code}: {reply.text[:200]}")
        where = f"{server.url}: POST {GENERATE}: problem {row.problem.id}, sample {row.sample}"
        if reply.status_code != 200:
            raise EngineError(f"{where}: status {reply.status_code}: {reply.text[:300]}")
        return self._read(where, server, row, wish, reply)

    def _read(
        self, where: str, server: ServerControl, row: SampleRow, wish: VllmSampling, reply: httpx.Response
    ) -> VllmOutput:
        try:
            choice = REPLY.validate_python(reply.json()).choices[0]
        except (ValidationError, ValueError, LookupError) as error:
            raise EngineError(f"{where}: the reply is not tokens: {str(error)[:200]}") from error
        if choice.finish_reason not in ("stop", "length") or not choice.token_ids:
            raise ServerLost(f"ended with {choice.finish_reason!r} and {len(choice.token_ids)} tokens")
        content = choice.logprobs.content if choice.logprobs else None
        logps = tuple(one.logprob for one in content or ())
        if wish.logps and len(logps) != len(choice.token_ids):
            raise EngineError(f"{where}: {len(logps)} log-probs for {len(choice.token_ids)} tokens")
        for span in choice.weight_versions or ():
            self._check(server, span.version)
        return VllmOutput(row.place, choice.token_ids, logps)

    def _check(self, server: ServerControl, label: Any) -> None:
        if self.label and label != self.label:
            raise EngineError(
                f"{server.url}: has the weights {label!r}, not {self.label!r}: it was started again, or another run "
                "uses it; the same command goes on from the last checkpoint"
            )
