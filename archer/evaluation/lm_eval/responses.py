"""Responses stored on disk, so that an interrupted evaluation continues where it stopped.

The key of a response holds the model's weights, the prompt's tokens, the sampling, the seed and the sample index, so
that two models, two seeds or two repeats never share one.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from archer.errors import RunFolderError
from archer.types import Json


class ResponseCache:
    """A table from requests to responses; a context manager. ``owner`` identifies the model in every key."""

    def __init__(self, path: Path, owner: Mapping[str, Json]) -> None:
        """Open the file, or create it. Raises RunFolderError if it cannot be written."""
        self.path, self.owner = path, dict(owner)
        self.found = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._table = sqlite3.connect(path, isolation_level=None)  # every statement is its own transaction
            self._table.execute("PRAGMA journal_mode=WAL")
            self._table.execute("PRAGMA synchronous=NORMAL")
            self._table.execute("CREATE TABLE IF NOT EXISTS responses (key TEXT PRIMARY KEY, response TEXT NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise self._broken(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()

    def get(self, request: Json) -> Json:
        """Return the stored response to ``request``, or None."""
        try:
            row = self._table.execute("SELECT response FROM responses WHERE key = ?", (self._key(request),)).fetchone()
        except sqlite3.Error as error:
            raise self._broken(error) from error
        if row is None:
            return None
        self.found += 1
        return json.loads(row[0])

    def put(self, request: Json, response: Json) -> None:
        """Store a response. Raises RunFolderError if the disk is full."""
        try:
            self._table.execute(
                "INSERT OR REPLACE INTO responses VALUES (?, ?)", (self._key(request), json.dumps(response))
            )
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _key(self, request: Json) -> str:
        return hashlib.sha256(json.dumps([self.owner, request], sort_keys=True).encode()).hexdigest()

    def _broken(self, error: Exception) -> RunFolderError:
        return RunFolderError(
            f"{self.path}: responses cannot be stored: {error}; free some space or choose another --out"
        )
