"""Write a benchmark's revision and checksum into its YAML; every other line stays as it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from archer.errors import DataError, MissingError, first_line
from archer.evaluation.benchmark import benchmark_file, fingerprint, read_benchmark
from archer.evaluation.loaded import located
from archer.problems.streams import read_problems
from archer.system import in_checkout

CONFIRM = re.compile(r"^confirm:.*\n?(?:[ \t-].*\n?)*", re.MULTILINE)  # with the items of a list on the lines below it


@dataclass(frozen=True)
class PinnedBenchmark:
    """What was written. ``before`` is the old checksum, empty for none; ``revision`` is None for a local copy."""

    revision: str | None
    problems: int
    sha256: str
    before: str
    confirmed: bool


def pin(name: str, data: Mapping[str, Path] | None = None, revision: str | None = None) -> PinnedBenchmark:
    """Load a benchmark's rows and write their revision and checksum into its YAML.

    ``revision`` defaults to the pinned one, else to the hub's newest. Rows from ``data`` pin only the checksum: the
    hub's rows remain unconfirmed, and become so again if the checksum changes. Raises DataError if the rows are not as
    many as the YAML says, if they have public tests only, if the file cannot be written, and in an installed package.
    """
    path = in_checkout(benchmark_file(name), "`pin` writes the benchmarks of")
    old, benchmark = read_benchmark(name), located(name, data)
    if old.data.path is None:
        raise DataError(f"{name}: its problems are generated: there is no revision to pin; `check` shows the checksum")
    from_hub = not (data and name in data)
    if from_hub:
        commit = commit_of(old.data.path, revision or old.data.revision)
        benchmark = replace(benchmark, data=replace(benchmark.data, revision=commit))
    problems = read_problems(benchmark.data, old.problems)
    if len(problems) != old.problems:
        raise DataError(f"{name}: {len(problems)} problems, its YAML says {old.problems}: another data set; not pinned")
    if any(problem.meta.get("private_tests") == 0 for problem in problems):
        raise DataError(f"{name}: rows with public tests only are not this benchmark; not pinned")
    pinned = PinnedBenchmark(
        benchmark.data.revision if from_hub else None, len(problems), fingerprint(problems), old.sha256, from_hub
    )
    try:
        path.write_text(rewritten(path.read_text(encoding="utf-8"), pinned), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from error
    except DataError as error:
        raise DataError(f"{path}: not pinned: {error}") from error
    read_benchmark(name)
    return pinned


def rewritten(text: str, pinned: PinnedBenchmark) -> str:
    """Return a benchmark's YAML with these pins; comments and all other lines stay.

    The new text is read again and compared. Raises DataError if the layout kept the pins from being written.
    """
    wanted = _pinned(yaml.safe_load(text), pinned)
    new = _with(text, "sha256", pinned.sha256)
    if pinned.confirmed and re.search(r"^  revision:", new, re.MULTILINE):
        new = _with(new, "  revision", str(pinned.revision))
    elif pinned.confirmed:
        new = re.sub(r"^(  path: .*)$", rf"\1\n  revision: {pinned.revision}", new, count=1, flags=re.MULTILINE)
    if wanted.get("confirm") != yaml.safe_load(text).get("confirm"):
        new = CONFIRM.sub("", new)
        new += f"confirm: [{', '.join(wanted['confirm'])}]\n" if "confirm" in wanted else ""
    if yaml.safe_load(new) != wanted:
        raise DataError("its pins could not be written; put `path` and `revision` on lines of their own below `data:`")
    return new


def _pinned(values: dict[str, Any], pinned: PinnedBenchmark) -> dict[str, Any]:
    """Return the values that the benchmark's YAML is to hold."""
    wanted = {**values, "sha256": pinned.sha256}
    if pinned.confirmed:
        wanted.pop("confirm", None)
        return {**wanted, "data": {**values["data"], "revision": pinned.revision}}
    left = values.get("confirm", [])
    if pinned.sha256 != pinned.before and "sha256" not in left:
        wanted["confirm"] = [*left, "sha256"]
    return wanted


def _with(text: str, key: str, value: str) -> str:
    """Replace the value of a key that stands alone on its line; a comment after it stays."""
    new, count = re.subn(rf"^({key}:)[ \t]*[^\s#]*", rf"\1 {value}", text, count=1, flags=re.MULTILINE)
    if not count:
        raise DataError(f"no line `{key.strip()}: ...` to write into; put the key on a line of its own")
    return new


def commit_of(repository: str, revision: str | None) -> str:
    """Return the full commit of a revision (None: the newest) of a hub data set.

    Raises MissingError without the hub's client, DataError if the hub does not give one.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingError("pinning needs the hub's client: `pip install huggingface_hub`") from error
    try:
        commit = HfApi().dataset_info(repository, revision=revision).sha
    except Exception as error:  # the hub's client raises many kinds, all meaning that the commit is unavailable
        raise DataError(
            f"{repository}@{revision or 'main'}: the hub does not answer for it: {first_line(error)}; run this where "
            "it can be reached, or pin a copy with --data NAME=PATH"
        ) from error
    if not commit:
        raise DataError(f"{repository}@{revision or 'main'}: the hub names no commit")
    return str(commit)
