"""Balancing requests over servers: each goes to the least loaded server that has room.

A request lost with its connection is sent again, to another server or to the same one once it is back. The call fails
if a server is away, or samples no token, for longer than the deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from archer.engines.servers.call import EngineCall, EngineOutput
from archer.engines.servers.client import CONNECT_SECONDS, ServerClient
from archer.errors import EngineError
from archer.types import Json, Rollout

TICK = 0.05  # seconds between two checks of deadlines and for further requests
LOOKS = 5.0  # most seconds between two looks at a server's token count
PROBES = 0.5  # seconds between two checks whether a server is back
TRIES = 5  # of one request that a server answers with status 5xx, or with an aborted response


class ServerLost(Exception):
    """A request got no reply, for the reason given."""


@dataclass(frozen=True)
class SampledReply:
    """One response as a server gave it: ``finish`` is "stop", "length" or else; ``labels`` of the weights it had."""

    tokens: tuple[int, ...]
    logps: tuple[float, ...]
    finish: str
    labels: tuple[str, ...] = ()


Ask = Callable[[str], Awaitable[httpx.Response]]  # gets a page of one server


class ServerSpeech(Protocol):
    """How one kind of server is asked, and how its answers are read."""

    @property
    def path(self) -> str:
        """The call that samples."""
        ...

    def body(self, call: EngineCall, number: int) -> Json:
        """Return what asks for the response of one request."""
        ...

    def read(self, reply: httpx.Response, wanted: bool) -> SampledReply:
        """Return what a reply holds, log-probs if they are ``wanted``.

        Raises ValueError, LookupError or TypeError where it is something else.
        """
        ...

    async def sampled(self, ask: Ask) -> float | None:
        """Return how many tokens a server has sampled so far; None if it does not tell before a response ends."""
        ...

    async def label(self, ask: Ask) -> str:
        """Return the version label of a server's weights."""
        ...


@dataclass
class ServerSlots:
    """One server during a call; times are of ``time.monotonic()``, in seconds.

    - ``room``, ``active``: most requests it may run, and how many it runs
    - ``tokens``: its token count at the last look
    - ``heard``: when it last sampled a token
    - ``down``, ``why``: since when it is away (None: it is up), and the reason
    - ``looked``, ``look``: when it was last looked at, and the look under way
    """

    server: ServerClient
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

    def __init__(
        self, servers: Sequence[ServerClient], speech: ServerSpeech, room: int, seconds: float, label: str
    ) -> None:
        self.speech = speech
        self.servers = [ServerSlots(server, room) for server in servers]
        self.seconds, self.label = seconds, label
        self.again: deque[int] = deque()  # numbers of requests that a server lost
        self.tries: dict[int, int] = {}
        self.tasks: dict[asyncio.Task[EngineOutput], tuple[ServerSlots, int]] = {}

    def run(self, call: EngineCall) -> Iterator[Rollout]:
        """Sample every request of the call; nothing of it runs here between two rollouts. Raises EngineError."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        timeout = httpx.Timeout(None, connect=min(CONNECT_SECONDS, self.seconds))
        client = httpx.AsyncClient(
            limits=limits, timeout=timeout, headers=dict(self.servers[0].server.headers), trust_env=False
        )
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

    async def _wait(self) -> list[asyncio.Task[EngineOutput]]:
        """Return the requests that ended, waiting at most a tick."""
        if not self.tasks:
            await asyncio.sleep(TICK)
            return []
        done, _ = await asyncio.wait(self.tasks, timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
        return sorted(done, key=lambda task: self.tasks[task][1])

    async def _fill(self, client: httpx.AsyncClient, call: EngineCall) -> bool:
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

    def _settle(self, task: asyncio.Task[EngineOutput], call: EngineCall) -> Iterator[Rollout]:
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
        self.tries[number] = self.tries.get(number, 0) + why.startswith(("status", "ended"))
        if self.tries[number] >= TRIES:
            raise EngineError(
                f"{slots.server.url}: POST {self.speech.path}: failed {TRIES} times for one request: {why}"
            )
        slots.down = slots.down or time.monotonic()
        slots.why = why

    def _excuse(self, since: float) -> None:
        """Exclude from the deadlines the time spent grading or waiting for verdicts since ``since``."""
        spent = time.monotonic() - since
        for slots in self.servers:
            slots.heard += spent
            slots.down = slots.down and slots.down + spent

    async def _look(self, client: httpx.AsyncClient, call: EngineCall) -> None:
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
                spent = f"{now - since:.1f} of at most {self.seconds:.0f} s"
                raise EngineError(f"{slots.server.url}: POST {self.speech.path}: {what} for {spent}; {call.progress()}")

    async def _ask(self, client: httpx.AsyncClient, slots: ServerSlots) -> None:
        """Read a server's token count; if it is away, check whether it is back, and with which weights."""

        async def ask(path: str) -> httpx.Response:
            return await client.get(f"{slots.server.url}{path}", timeout=max(1.0, self.seconds / 4))

        try:
            if slots.down is None:
                tokens = await self.speech.sampled(ask)
                if tokens is not None and tokens != slots.tokens:
                    slots.tokens, slots.heard = tokens, time.monotonic()
                return
            if (await ask("/health")).status_code != 200:
                return
            self._check(slots.server, await self.speech.label(ask))
            slots.down, slots.heard = None, time.monotonic()
        except (httpx.HTTPError, ValueError):
            return

    async def _draw(
        self, client: httpx.AsyncClient, server: ServerClient, number: int, call: EngineCall
    ) -> EngineOutput:
        """Send one request. Raises ServerLost if the server did not answer, EngineError for an invalid reply."""
        request = call.running[number]
        try:
            reply = await client.post(f"{server.url}{self.speech.path}", json=self.speech.body(call, number))
        except httpx.HTTPError as error:
            raise ServerLost(f"{type(error).__name__}: {error}") from error
        if reply.status_code >= 500:
            raise ServerLost(f"status {reply.status_code}: {reply.text[:200]}")
        where = f"{server.url}: POST {self.speech.path}: problem {request.problem.id}, sample {request.sample}"
        if reply.status_code != 200:
            raise EngineError(f"{where}: status {reply.status_code}: {reply.text[:300]}")
        sampled = self._read(where, server, call.queue.logps, reply)
        return EngineOutput(number, sampled.tokens, sampled.logps)

    def _read(self, where: str, server: ServerClient, wanted: bool, reply: httpx.Response) -> SampledReply:
        """Return a reply's tokens, and their log-probs if they are ``wanted``."""
        try:
            sampled = self.speech.read(reply, wanted)
        except (ValueError, LookupError, TypeError) as error:
            raise EngineError(f"{where}: the reply is not tokens: {str(error)[:200]}") from error
        if sampled.finish not in ("stop", "length") or not sampled.tokens:
            raise ServerLost(f"ended with {sampled.finish!r} and {len(sampled.tokens)} tokens")
        if wanted and len(sampled.logps) != len(sampled.tokens):
            raise EngineError(f"{where}: {len(sampled.logps)} log-probs for {len(sampled.tokens)} tokens")
        for label in sampled.labels:
            self._check(server, label)
        return sampled

    def _check(self, server: ServerClient, label: str) -> None:
        if self.label and label != self.label:
            raise EngineError(
                f"{server.url}: has the weights {label!r}, not {self.label!r}: it was started again, or another run "
                "uses it; the same command goes on from the last checkpoint"
            )
