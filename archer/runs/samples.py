"""Samples kept as they are drawn: a JSON-lines file a benchmark, so that a kill costs the samples under way alone.

A sample's line holds its :func:`sample_key`, and what grading it again needs. Before the first sample of each session
goes a line that says which machine, versions and engine drew what follows.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from pydantic import TypeAdapter

from archer.engines.base import Completion
from archer.errors import DataError, EngineError, RunFolderError
from archer.types import Json, Sampling, Stop

SYNC_SECONDS = 5.0
FIRST = b'{"drawn_by"'  # how the line that begins a session, and so a store, begins


@dataclass(frozen=True)
class StoredSample:
    """A sample as stored: with its own seed, drawn ``at`` seconds after its session, counted from 1, began."""

    key: str
    problem: str
    sample: int
    seed: int
    text: str
    tokens: int
    stop: Stop
    at: float
    session: int = 0


READER = TypeAdapter(StoredSample)


def sample_key(
    weights: str, engine: Mapping[str, Json], prompt: Json, sampling: Sampling, seed: int, sample: int
) -> str:
    """Return the name of a sample: a sha256 of all that decides what is drawn."""
    parts = [weights, engine, prompt, asdict(sampling), seed, sample]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Samples(Protocol):
    """Where an evaluation finds samples, and leaves them."""

    def get(self, keys: Collection[str]) -> dict[str, StoredSample]:
        """Return what is there of ``keys``."""
        ...

    def put(self, name: str, answer: Completion) -> StoredSample:
        """Keep an answer under its key."""
        ...

    def origins(self, kept: Iterable[StoredSample]) -> list[Json]:
        """Return what drew these samples, each once, the present session left out if it is like them."""
        ...


class UnstoredSamples:
    """Keeps nothing: for points of a curve, which no file of weights stands behind."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def get(self, keys: Collection[str]) -> dict[str, StoredSample]:
        """Return nothing."""
        return {}

    def put(self, name: str, answer: Completion) -> StoredSample:
        """Return the answer as it would be kept."""
        return to_stored(name, answer, time.perf_counter() - self._start, 1)

    def origins(self, kept: Iterable[StoredSample]) -> list[Json]:
        """Return nothing: all is drawn here."""
        return []


class SampleStore:
    """One file of samples, this process's alone while it is open; a context manager.

    A line is handed to the kernel at once, so that killing this process loses none, and flushed to the disk every
    five seconds: after a power cut the last few are drawn again. Raises RunFolderError when the file is another
    process's, cannot be written or is no store (then nothing of it is touched), DataError naming the line that is
    damaged.
    """

    def __init__(self, path: Path, made: Mapping[str, Json]) -> None:
        self.path, self._made = path, dict(made)
        self._start = self._synced = time.perf_counter()
        self._sessions: list[Json] | None = None  # what the file's lines say of each, once they are read
        self._opened = False  # this session has its line
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("a+b", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise RunFolderError(f"{path}: another process adds samples to it; wait for it, or stop it") from error
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be written: {error.strerror}; choose another --store") from error
        if not is_store(self._file):
            self._file.close()
            raise RunFolderError(
                f"{path}: not a store of samples, and left as it is: its first line does not begin with "
                f"{FIRST.decode()}; choose another --store, or another --out"
            )
        cut_tail(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    def get(self, keys: Collection[str]) -> dict[str, StoredSample]:
        """Return what the file holds of ``keys``; of a key twice the first, which was graded before."""
        found: dict[str, StoredSample] = {}
        sessions = self._sessions = list[Json]()
        self._file.seek(0)
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            for number, line in enumerate(lines, 1):
                row = self._read(number, line, sessions)
                if row is not None and row.key in keys:
                    found.setdefault(row.key, row)
        return found

    def put(self, name: str, answer: Completion) -> StoredSample:
        """Append one answer. Raises EngineError for one that could not be read again."""
        if self._sessions is None:
            self.get(())
        sessions = self._sessions or []
        if not self._opened:
            self._append({"drawn_by": self._made})
            sessions.append(self._made)
            self._sessions, self._opened = sessions, True
        now = time.perf_counter()
        kept = to_stored(name, answer, round(now - self._start, 3), len(sessions))
        row = {field: value for field, value in asdict(kept).items() if field != "session"}
        try:
            READER.validate_json(json.dumps(row), strict=True)
        except ValueError as error:
            raise EngineError(f"problem {kept.problem}, sample {kept.sample}: not an answer: {why(error)}") from error
        self._append(row)
        if now - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = now
        return kept

    def origins(self, kept: Iterable[StoredSample]) -> list[Json]:
        """Return what drew these samples, each once, the present session left out if it is like them."""
        found: list[Json] = []
        for session in sorted({one.session for one in kept}):
            made = (self._sessions or [])[session - 1]
            if made not in found and made != self._made:
                found.append(made)
        return found

    def _append(self, row: Mapping[str, Json]) -> None:
        data = json.dumps(row).encode() + b"\n"
        try:
            while data:  # a disk that fills up takes a part
                data = data[self._file.write(data) :]
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: cannot be written: {error.strerror}; free some space and run the same command again"
            ) from error

    def _read(self, number: int, line: bytes, sessions: list[Json]) -> StoredSample | None:
        """Return a line's sample, None for a session's line. Raises DataError."""
        try:
            if line.startswith(FIRST):
                sessions.append(json.loads(line)["drawn_by"])
                return None
            return replace(READER.validate_json(line, strict=True), session=len(sessions))
        except ValueError as error:  # json's and pydantic's too
            raise DataError(
                f"{self.path}: line {number}: not a sample: {why(error)}; mend it, or delete it and it is drawn again"
            ) from error


def to_stored(name: str, answer: Completion, at: float, session: int) -> StoredSample:
    """Return an answer as it is kept."""
    return StoredSample(
        name, answer.problem.id, answer.sample, answer.seed, answer.text, answer.tokens, answer.stop, at, session
    )  # fmt: skip


def seconds(kept: Iterable[StoredSample]) -> float:
    """Return how long these samples took to draw, over all sessions: of each, until the last of them."""
    last: dict[int, float] = {}
    for one in kept:
        last[one.session] = max(one.at, last.get(one.session, 0.0))
    return sum(last.values())


def why(error: ValueError) -> str:
    """Return the first of what json or pydantic say."""
    return " ".join(str(error).splitlines()[:3])


def is_store(file: BinaryIO) -> bool:
    """Say whether a file may be added to, and its cut tail dropped: a store, the beginning of one, or empty."""
    file.seek(0)
    start = file.read(len(FIRST))
    return FIRST.startswith(start)


def cut_tail(file: BinaryIO) -> None:
    """Drop a last line that a kill cut short."""
    end = file.seek(0, os.SEEK_END)
    whole, step = end, 1 << 16
    while whole > 0:
        start = max(0, whole - step)
        file.seek(start)
        at = file.read(whole - start).rfind(b"\n")
        if at >= 0:
            whole = start + at + 1
            break
        whole = start
    if whole != end:
        file.truncate(whole)
