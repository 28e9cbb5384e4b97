"""A pipeline's work folder: each stage's lines in a file of its own, rewritten if interrupted, kept when done.

<stage>.jsonl   candidates read, or candidates dropped; written aside and renamed
<stage>.json    its report: counts, the sha256 of its lines, and its key; when it exists, the stage is done
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
    """Writes lines into a file, counting and hashing them."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._digest, self.count = file, hashlib.sha256(), 0

    def write(self, line: str) -> None:
        """Write one line of ASCII, which includes its line end."""
        self._digest.update(line.encode("ascii"))
        self._file.write(line)
        self.count += 1

    @property
    def sha256(self) -> str:
        """The digest of all lines so far."""
        return self._digest.hexdigest()


class BuildFolder:
    """A work folder locked by this process; a context manager. Raises RunFolderError if another process has it."""

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
        """Return a stage's report: the existing one if its key is the same, else that of writing its lines now.

        ``parts`` is everything the lines depend on. Raises RunFolderError if they cannot be written.
        """
        path, report_path = path or self.folder / f"{name}.jsonl", self.folder / f"{name}.json"
        before = done(report_path, path)
        if before is not None and before["key"] == key(name, parts):
            self.say(f"{name}: done before")
            return before
        start = time.perf_counter()
        aside = path.with_name(path.name + ".part")
        try:
            with aside.open("w", encoding="ascii") as file:
                lines = LineWriter(file)
                facts = write(lines)
                file.flush()
                os.fsync(file.fileno())
            report_path.unlink(missing_ok=True)  # it will not describe the new lines
            aside.replace(path)
        except OSError as error:
            raise RunFolderError(
                f"{error.filename or aside}: {error.strerror}; once that is mended the same command goes on, and "
                "finished stages are kept"
            ) from error
        report = {"key": key(name, parts), "lines": lines.count, "bytes": path.stat().st_size, "sha256": lines.sha256}
        write_aside(report_path, json.dumps({**report, **facts}, indent=1) + "\n")
        append(self.out / "timings.jsonl", {"stage": name, "seconds": round(time.perf_counter() - start, 3)})
        return {**report, **facts}

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage's last run; they are not in reports, which are the same on every rerun."""
        path, seconds = self.out / "timings.jsonl", dict[str, float]()
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                row = json.loads(line)
                seconds[row["stage"]] = row["seconds"]
            except (ValueError, KeyError):  # cut by a kill
                continue
        return seconds


def key(name: str, parts: Json) -> str:
    """Return a hash of everything that a stage's lines depend on."""
    return hashlib.sha256(json.dumps([RULES, name, parts], sort_keys=True).encode()).hexdigest()


def done(report_path: Path, path: Path) -> Report | None:
    """Return the report of a finished stage; None if its report or its lines are missing."""
    try:
        report = json.loads(report_path.read_text(encoding="utf-8"))
        whole = path.is_file() and path.stat().st_size == report["bytes"]
        return report if whole else None
    except (OSError, ValueError, KeyError):
        return None
