"""Calls to one server, each with a deadline."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx

from archer.errors import EngineError, RecipeError
from archer.types import Json

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
CONNECT_SECONDS = 10.0


@dataclass
class ServerClient:
    """Calls to one server.

    - ``key``: the environment variable that holds the server's API key, if it has one
    - ``url``: without a path
    - ``seconds``: deadline of a call
    - ``at``: the latest call, for errors
    """

    key: ClassVar[str] = ""

    url: str
    seconds: float
    at: str = field(default="", init=False)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of every request."""
        key = os.environ.get(self.key)
        return {"User-Agent": "archer", **({"Authorization": f"Bearer {key}"} if key else {})}

    def get(self, path: str) -> Any:
        """Return the JSON of a page. Raises EngineError."""
        return self._request("GET", path, None, min(self.seconds, CONNECT_SECONDS))

    def post(self, path: str, body: Json = None, seconds: float | None = None) -> Any:
        """Make a call and return the JSON of its reply. Raises EngineError."""
        return self._request("POST", path, body, seconds or self.seconds)

    def _request(self, method: str, path: str, body: Json, seconds: float) -> Any:
        self.at = f"{method} {path}"
        started = time.monotonic()
        limit = httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))
        try:
            with httpx.Client(timeout=limit, headers=self.headers, trust_env=False) as client:
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


def address(url: str, key: str) -> str:
    """Return a server's URL without its path; ``key`` of the recipe names it. Raises RecipeError for an invalid URL."""
    parts = urlsplit(url.rstrip("/").removesuffix("/v1"))
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
        raise RecipeError(f"{key}: {url!r}: expected a URL such as http://node1:8000")
    return f"{parts.scheme}://{parts.netloc}"
