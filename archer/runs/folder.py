"""The files of a run folder: manifest, metrics, timings, every rollout and verdict. Append-only except to rewind.

manifest.json            recipe, algorithm, seed, commit, versions, machine
metrics.jsonl            one line per step, the same on every rerun
timings.jsonl            one line per step, wall-clock seconds
rollouts/000012.jsonl.gz every rollout and verdict of step 12
results/<benchmark>.json the final evaluation; results/step-000010/ those along the way
samples/<benchmark>.jsonl every sample of the final evaluation, see samples.py
checkpoints/             see checkpoints.py
"""

from __future__ import annotations

import fcntl
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from archer.errors import RecipeError, RunFolderError
from archer.recipe.reading import recorded_recipe
from archer.runs.results import write_result
from archer.system import write_aside
from archer.types import Json, Result, Rollout, Verdict

IDENTITY = ("recipe_digest", "algorithm", "seed", "threads", "weights")  # must agree for a run to resume


class RunWriter:
    """Writes one run's folder."""

    def __init__(self, folder: Path, manifest: Mapping[str, Json]) -> None:
        """Open ``folder`` for the run that ``manifest`` describes, to start or to resume it.

        Raises RunFolderError if it holds another run or cannot be written.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / ".lock").open("w")
            take_lock(self._lock, folder)
            existing = read_manifest(folder)
            if existing is None:
                write_aside(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")
            else:
                refuse_other(folder, existing, manifest)
        except OSError as error:
            raise RunFolderError(f"{folder}: cannot be written: {error.strerror}; choose another --out") from error

    def close(self) -> None:
        """Release the lock on the folder."""
        self._lock.close()

    def rewind(self, step: int) -> None:
        """Delete the records of ``step`` and later steps, written after the last checkpoint."""
        for name in ("metrics.jsonl", "timings.jsonl"):
            path = self.folder / name
            if path.exists():
                kept = [line for line in path.read_text().splitlines() if 0 <= line_step(line) < step]
                write_aside(path, "".join(f"{line}\n" for line in kept))
        for path in (self.folder / "rollouts").glob("[0-9]*"):
            if path.suffix == ".tmp" or int(path.name.split(".")[0]) >= step:
                path.unlink()

    def write(
        self,
        step: int,
        metrics: Mapping[str, float],
        sampled: Sequence[tuple[Rollout, Verdict]],
    ) -> None:
        """Record the metrics and rollouts of a step. Raises RunFolderError if the disk is full."""
        try:
            self._write_rollouts(step, sampled)
            append(self.folder / "metrics.jsonl", {"step": step, **metrics})
        except OSError as error:
            raise RunFolderError(
                f"{self.folder}: step {step} could not be written: {error.strerror}; free some space and run the "
                "same command again, it goes on from the last checkpoint"
            ) from error

    def time(self, step: int, seconds: Mapping[str, float]) -> None:
        """Record the seconds of a step's parts, apart from the metrics, which are the same on every rerun."""
        append(self.folder / "timings.jsonl", {"step": step, **seconds})

    def update(self, manifest: Mapping[str, Json]) -> None:
        """Replace the manifest, when the same comparison resumes with other algorithms or seeds."""
        write_aside(self.folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")

    def result(self, result: Result, *, final: bool) -> None:
        """Write the result of an evaluation: the ``final`` one, or one during training."""
        along = self.folder / "results" / f"step-{result.step:06d}" / f"{result.benchmark}.json"
        write_result(result, self.final(result.benchmark) if final else along)

    def final(self, benchmark: str) -> Path:
        """Return the path of a benchmark's final result."""
        return self.folder / "results" / f"{benchmark}.json"

    def has(self, benchmark: str) -> bool:
        """Whether a benchmark's final result exists."""
        return self.final(benchmark).exists()

    def _write_rollouts(self, step: int, sampled: Sequence[tuple[Rollout, Verdict]]) -> None:
        lines = []
        for rollout, verdict in sampled:
            row = {
                "problem": rollout.problem.id, "prompt": rollout.problem.prompt, "sample": rollout.sample,
                "text": rollout.text, "stop": rollout.stop, "version": rollout.version,
                "score": verdict.score, "passed": verdict.passed, "reason": verdict.reason,
                "tokens": rollout.tokens.tolist(), "logps": [round(logp, 6) for logp in rollout.logps.tolist()],
            }  # fmt: skip
            if verdict.parts:
                row["parts"] = dict(verdict.parts)
            lines.append(json.dumps(row) + "\n")
        path = self.folder / "rollouts" / f"{step:06d}.jsonl.gz"
        # Without a time stamp, so that a rerun writes the same bytes.
        write_aside(path, gzip.compress("".join(lines).encode(), compresslevel=3, mtime=0))


def take_lock(lock: TextIO, folder: Path) -> None:
    """Lock the folder for this process. Raises RunFolderError if another process has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunFolderError(f"{folder}: another process is writing this run; wait for it, or stop it") from error


def read_manifest(folder: Path) -> dict[str, Json] | None:
    """Return the manifest of a run folder, None if there is none. Raises RunFolderError if it is damaged."""
    path = folder / "manifest.json"
    if not path.exists():
        return None
    try:
        manifest: Json = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text
        raise RunFolderError(f"{path}: damaged ({error}); choose another --out") from error
    if not isinstance(manifest, dict):
        raise RunFolderError(f"{path}: damaged (expected an object, found {manifest!r:.40}); choose another --out")
    return manifest


def refuse_other(folder: Path, existing: Mapping[str, Json], manifest: Mapping[str, Json]) -> None:
    """Raise RunFolderError if a folder belongs to another run."""
    before = {**existing, "recipe_digest": recorded_digest(existing)}
    for name, digest in (existing.get("parts") or {}).items():
        now = (manifest.get("parts") or {}).get(name)
        if now not in (None, digest):
            raise RunFolderError(
                f"{folder}: holds a run with another source of {name} (sha256 {digest[:12]}, now {now[:12]}); take the "
                "part back to what it was, choose another --out, or delete the folder"
            )
    for key in IDENTITY:
        if key in manifest and before.get(key) != manifest[key]:
            raise RunFolderError(
                f"{folder}: holds a run with {key} {before.get(key)!r}, this one has {manifest[key]!r}; "
                "choose another --out, or delete the folder"
            )


def recorded_digest(manifest: Mapping[str, Json]) -> Json:
    """Return the current digest of a manifest's recipe, also if its keys have old names."""
    try:
        recipe = recorded_recipe(manifest, "manifest.json")
        return recipe.digest(manifest.get("algorithm"), manifest.get("parts"))
    except (KeyError, RecipeError):  # an evaluation's manifest holds no recipe
        return manifest.get("recipe_digest")


def read_lines(path: Path) -> list[dict[str, Json]]:
    """Return the lines of a JSON-lines file, without a last line truncated by a kill."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line_step(line) >= 0]


def last_line(path: Path) -> tuple[int, dict[str, Json]]:
    """Return the number of complete lines of a JSON-lines file, and the last one ({} if there is none)."""
    if not path.exists():
        return 0, {}
    *complete, _cut = path.read_bytes().split(b"\n")
    return len(complete), json.loads(complete[-1]) if complete else {}


def line_step(line: str) -> int:
    """Return the step of a line of metrics or timings, -1 for one truncated by a kill."""
    try:
        return int(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError):
        return -1


def append(path: Path, row: Mapping[str, Json]) -> None:
    """Append one JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
