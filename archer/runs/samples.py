"""The sample store: a JSON-lines file per benchmark, written sample by sample, so a kill loses only unfinished samples.

A sample's line holds its :func:`sample_key`, and all that grading it again needs. Each session starts with a line that
names the machine, versions and engine of the samples after it.
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

from archer.errors import DataError, EngineError, RunFolderError
from archer.types import Json, Rollout, Sampling, Stop

SYNC_SECONDS = 5.0
FIRST = b'{"drawn_by"'  # the first bytes of a session's first line, and so of a store


@dataclass(frozen=True)
class StoredSample:
    """A sample in a store; ``at`` is in seconds since the start of its ``session``, counted from 1."""

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
    """Return a sample's key: a sha256 of everything that determines the sample."""
    parts = [weights, engine, prompt, asdict(sampling), seed, sample]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Samples(Protocol):
    """A store of an evaluation's samples, by key."""

    def get(self, keys: Collection[str]) -> dict[str, StoredSample]:
        """Return the stored samples of ``keys``, by key."""
        ...

    def put(self, name: str, rollout: Rollout) -> StoredSample:
        """Store a rollout under its key ``name``; return the stored sample."""
        ...

    def origins(self, kept: Iterable[StoredSample]) -> list[Json]:
        """Return the distinct origins of these samples, except the present session's own."""
        ...


class UnstoredSamples:
    """Stores nothing: for evaluations during training, whose weights are on no disk."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def get(self, keys: Collection[str]) -> dict[str, StoredSample]:
        """Return {}: nothing is stored."""
        return {}

    def put(self, name: str, rollout: Rollout) -> StoredSample:
        """Return the rollout as a stored sample."""
        return to_stored(name, rollout, time.perf_counter() - self._start, 1)

    def origins(self, kept: Iterable[StoredSample]) -> list[Json]:
        """Return []: all samples are of this session."""
        return []


class SampleStore:
    """One file of samples, locked for this process while it is open; a context manager.

    A line is written at once, so that killing the process loses none, and flushed to disk every five seconds, so that a
    power cut loses the last few. Raises RunFolderError if the file is locked, cannot be written or is not a store
    (which stays unchanged), and DataError with the number of a damaged line.
    """

    def __init__(self, path: Path, made: Mapping[str, Json]) -> None:
        self.path, self._made = path, dict(made)
        self._start = self._synced = time.perf_counter()
        self._sessions: list[Json] | None = None  # origin of each session in the file, once it is read
        self._opened = False  # whether this session's line is written
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
        """Return the file's samples of ``keys``; of two with one key the first, which was graded before."""
        samples: dict[str, StoredSample] = {}
        sessions = self._sessions = list[Json]()
        self._file.seek(0)
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            for number, line in enumerate(lines, 1):
                row = self._read(number, line, sessions)
                if row is not None and row.key in keys:
                    samples.setdefault(row.key, row)
        return samples

    def put(self, name: str, rollout: Rollout) -> StoredSample:
        """Append a rollout. Raises EngineError for one that could not be read back."""
        if self._sessions is None:
            self.get(())
        sessions = self._sessions or []
        if not self._opened:
            self._append({"drawn_by": self._made})
            sessions.append(self._made)
            self._sessions, self._opened = sessions, True
        now = time.perf_counter()
        kept = to_stored(name, rollout, round(now - self._start, 3), len(sessions))
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
        """Return the distinct origins of these samples, except the present session's own."""
        origins: list[Json] = []
        for session in sorted({sample.session for sample in kept}):
            made = (self._sessions or [])[session - 1]
            if made not in origins and made != self._made:
                origins.append(made)
        return origins

    def _append(self, row: Mapping[str, Json]) -> None:
        data = json.dumps(row).encode() + b"\n"
        try:
            while data:  # a disk that fills up accepts only a part
                data = data[self._file.write(data) :]
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: cannot be written: {error.strerror}; free some space and run the same command again"
            ) from error

    def _read(self, number: int, line: bytes, sessions: list[Json]) -> StoredSample | None:
        """Return a line's sample, or None for a session's line. Raises DataError."""
        try:
            if line.startswith(FIRST):
                sessions.append(json.loads(line)["drawn_by"])
                return None
            return replace(READER.validate_json(line, strict=True), session=len(sessions))
        except ValueError as error:  # json's and pydantic's too
            raise DataError(
                f"{self.path}: line {number}: not a sample: {why(error)}; mend it, or delete it and it is drawn again"
            ) from error


def to_stored(name: str, rollout: Rollout, at: float, session: int) -> StoredSample:
    """Return a rollout as a stored sample."""
    return StoredSample(
        name, rollout.problem.id, rollout.sample, rollout.seed, rollout.text, rollout.length, rollout.stop, at, session
    )


def seconds(kept: Iterable[StoredSample]) -> float:
    """Return the seconds it took to sample these: of each session until its last sample, summed."""
    last: dict[int, float] = {}
    for sample in kept:
        last[sample.session] = max(sample.at, last.get(sample.session, 0.0))
    return sum(last.values())


def why(error: ValueError) -> str:
    """Return the first lines of json's or pydantic's message."""
    return " ".join(str(error).splitlines()[:3])


def is_store(file: BinaryIO) -> bool:
    """Whether a file is a store, the beginning of one, or empty, so that lines may be added."""
    file.seek(0)
    start = file.read(len(FIRST))
    return FIRST.startswith(start)


def cut_tail(file: BinaryIO) -> None:
    """Remove a last line truncated by a kill."""
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
