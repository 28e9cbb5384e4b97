"""A pipeline's work folder: each stage's lines in a file of its own, begun anew when a kill cut it, kept when done.

<stage>.jsonl   candidates read, or candidates dropped; written aside and renamed
<stage>.json    its report: counts, the sha256 of its lines, and its key; the moment a stage is done
<stage>-<key>/  samples and verdicts of a stage that asks a model
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from archer.errors import RunFolderError
from archer.runs.folder import append
from archer.system import write_aside
from archer.types import Json

RULES = 1  # raised when what a stage writes could change

Report = dict[str, Json]
Say = Callable[[str], None]


class LineWriter:
    """Lines on their way into a file, counted and digested."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._digest, self.count = file, hashlib.sha256(), 0

    def write(self, line: str) -> None:
        """Write one line, in ASCII, with its end."""
        self._digest.update(line.encode("ascii"))
        self._file.write(line)
        self.count += 1

    @property
    def sha256(self) -> str:
        """The digest of all lines so far."""
        return self._digest.hexdigest()


class BuildFolder:
    """A folder that this process alone works in; a context manager. Raises RunFolderError where another does."""

    def __init__(self, out: Path, say: Say) -> None:
        self.out, self.folder, self.say = out, out / "work", say
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / ".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFolderError(f"{out}: another process builds in it; wait for it, or stop it") from error
        except OSError as error:
            raise RunFolderError(f"{out}: cannot be written: {error.strerror}; choose another --out") from error

    def __enter__(self) -> BuildFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def stage(self, name: str, parts: Json, write: Callable[[LineWriter], Report], path: Path | None = None) -> Report:
        """Return a stage's report: of before where its key is the same, else of writing its lines now.

        ``parts`` is all that the lines depend on. Raises RunFolderError where the disk does not take them.
        """
        path, told = path or self.folder / f"{name}.jsonl", self.folder / f"{name}.json"
        before = done(told, path)
        if before is not None and before["key"] == key(name, parts):
            self.say(f"{name}: done before")
            return before
        start = time.perf_counter()
        aside = path.with_name(path.name + ".part")
        try:
            with aside.open("w", encoding="ascii") as file:
                lines = LineWriter(file)
                found = write(lines)
                file.flush()
                os.fsync(file.fileno())
            told.unlink(missing_ok=True)  # it is of other lines from the next moment on
            aside.replace(path)
        except OSError as error:
            raise RunFolderError(
                f"{error.filename or aside}: {error.strerror}; once that is mended the same command goes on, and "
                "finished stages are kept"
            ) from error
        report = {"key": key(name, parts), "lines": lines.count, "bytes": path.stat().st_size, "sha256": lines.sha256}
        write_aside(told, json.dumps({**report, **found}, indent=1) + "\n")
        append(self.out / "timings.jsonl", {"stage": name, "seconds": round(time.perf_counter() - start, 3)})
        return {**report, **found}

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage's last run, apart from reports, which are the same on every rerun."""
        path, found = self.out / "timings.jsonl", dict[str, float]()
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                row = json.loads(line)
                found[row["stage"]] = row["seconds"]
            except (ValueError, KeyError):  # cut by a kill
                continue
        return found


def key(name: str, parts: Json) -> str:
    """Return the name of all that a stage's lines depend on."""
    return hashlib.sha256(json.dumps([RULES, name, parts], sort_keys=True).encode()).hexdigest()


def done(told: Path, path: Path) -> Report | None:
    """Return the report of a stage whose lines are there, None of one that is not done."""
    try:
        report = json.loads(told.read_text(encoding="utf-8"))
        whole = path.is_file() and path.stat().st_size == report["bytes"]
        return report if whole else None
    except (OSError, ValueError, KeyError):
        return None
