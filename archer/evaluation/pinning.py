"""Writing a benchmark's revision, count and checksum into its YAML, every other line as it was."""

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

CONFIRM = re.compile(r"^confirm:.*\n?(?:[ \t-].*\n?)*", re.MULTILINE)  # with the lines of a list below it


@dataclass(frozen=True)
class PinnedBenchmark:
    """What was written. ``before`` is the checksum that stood there, empty for none."""

    revision: str | None
    problems: int
    sha256: str
    before: str
    confirmed: bool


def pin(name: str, data: Mapping[str, Path] | None = None, revision: str | None = None) -> PinnedBenchmark:
    """Load the rows as the hub gives them and write what they are into the benchmark's YAML.

    ``revision`` defaults to the one that is pinned, else to the hub's newest. Rows from ``data`` pin the
    checksum alone: what the hub gives stays to be confirmed, or is to be confirmed again where the checksum is
    another. Raises DataError where the rows are not as many as the YAML says, or come with public tests only,
    where the file cannot be written, and in an installed package.
    """
    path = in_checkout(benchmark_file(name), "`pin` writes the benchmarks of")
    old, benchmark = read_benchmark(name), located(name, data)
    if old.data.path is None:
        raise DataError(f"{name}: its problems are generated; there is nothing to pin but what `check` says")
    from_hub = not (data and name in data)
    if from_hub:
        commit = commit_of(old.data.path, revision or old.data.revision)
        benchmark = replace(benchmark, data=replace(benchmark.data, revision=commit))
    problems = read_problems(benchmark.data, old.problems)
    if len(problems) != old.problems:
        raise DataError(f"{name}: {len(problems)} problems, its YAML says {old.problems}: another data set; not pinned")
    if any(problem.meta.get("private_tests") == 0 for problem in problems):
        raise DataError(f"{name}: rows with public tests only are not this benchmark; not pinned")
    found = PinnedBenchmark(
        benchmark.data.revision if from_hub else None, len(problems), fingerprint(problems), old.sha256, from_hub
    )
    try:
        path.write_text(rewritten(path.read_text(encoding="utf-8"), found), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from error
    except DataError as error:
        raise DataError(f"{path}: not pinned: {error}") from error
    read_benchmark(name)
    return found


def rewritten(text: str, pinned: PinnedBenchmark) -> str:
    """Return a benchmark's YAML with these pins; comments and all other lines stay.

    Read again, it must hold what was to be written: raises DataError for a layout that is not known here.
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
    """Return what a benchmark's YAML shall hold."""
    wanted = {**values, "sha256": pinned.sha256}
    if pinned.confirmed:
        wanted.pop("confirm", None)
        return {**wanted, "data": {**values["data"], "revision": pinned.revision}}
    left = values.get("confirm", [])
    if pinned.sha256 != pinned.before and "sha256" not in left:
        wanted["confirm"] = [*left, "sha256"]
    return wanted


def _with(text: str, key: str, found: str) -> str:
    """Replace the value of a key that stands alone on its line; a comment behind it stays."""
    new, count = re.subn(rf"^({key}:)[ \t]*[^\s#]*", rf"\1 {found}", text, count=1, flags=re.MULTILINE)
    if not count:
        raise DataError(f"no line `{key.strip()}: ...` to write into; put the key on a line of its own")
    return new


def commit_of(repository: str, revision: str | None) -> str:
    """Return the full commit that a revision (or the newest) of a hub data set is."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingError("pinning needs the hub's client: `pip install huggingface_hub`") from error
    try:
        found = HfApi().dataset_info(repository, revision=revision).sha
    except Exception as error:  # the hub's client raises a dozen kinds, all meaning: not to be had
        raise DataError(
            f"{repository}@{revision or 'main'}: the hub does not answer for it: {first_line(error)}; run this where "
            "it can be reached, or pin a copy with --data NAME=PATH"
        ) from error
    if not found:
        raise DataError(f"{repository}@{revision or 'main'}: the hub names no commit")
    return str(found)
