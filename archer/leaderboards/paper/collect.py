"""Results of any origin -> rows of a table, or an error that names every file that does not belong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from archer.errors import DataError
from archer.evaluation.benchmark import Benchmark, benchmark_names, read_benchmark
from archer.runs.results import read_result
from archer.types import Result

Key = tuple[str, str]  # label and benchmark


@dataclass(frozen=True)
class FoundResult:
    """A result and its file."""

    path: Path
    result: Result


@dataclass(frozen=True)
class CollectedResults:
    """Results, JSON files that are no results, and the errors of damaged results."""

    found: tuple[FoundResult, ...]
    others: tuple[Path, ...]
    damaged: tuple[str, ...]


def gather(folders: Iterable[Path]) -> CollectedResults:
    """Read every JSON file below the folders except manifests, checkpoints and points of learning curves.

    A file directly in a folder named ``results`` must be a result; a file elsewhere may be another program's. Raises
    DataError for a missing folder.
    """
    found: dict[Path, FoundResult] = {}
    others, damaged = dict[Path, Path](), dict[Path, str]()
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of results; give one with --results")
        for path in sorted(folder.rglob("*.json")):
            whole = path.resolve()
            if whole in {**found, **others, **damaged} or passed_over(folder, path):
                continue
            try:
                found[whole] = FoundResult(path, read_result(path))
            except DataError as error:
                if whole.parent.name == "results":
                    damaged[whole] = str(error)
                else:
                    others[whole] = path
    return CollectedResults(tuple(found.values()), tuple(others.values()), tuple(damaged.values()))


def passed_over(folder: Path, path: Path) -> bool:
    """Return whether a file's path says that it is no score: a manifest, a checkpoint, a point of a learning curve."""
    parts = [folder.resolve().name, *path.relative_to(folder).parts]
    points = any(part == "results" and child.startswith("step-") for part, child in pairwise(parts))
    return path.name == "manifest.json" or "checkpoints" in parts or points


def collect(folders: Iterable[Path]) -> CollectedResults:
    """Return what :func:`gather` finds. Raises DataError for damaged results."""
    gathered = gather(folders)
    if gathered.damaged:
        raise DataError("\n".join(gathered.damaged))
    return gathered


def left_out(gathered: CollectedResults) -> list[str]:
    """Return a sentence on each kind of files that no table shows, with their number."""
    known = benchmark_names()
    unknown = [entry for entry in gathered.found if entry.result.benchmark not in known]
    names = ", ".join(sorted({entry.result.benchmark for entry in unknown}))
    kinds = {
        "no results of `archer eval`": gathered.others,
        f"of what is no benchmark ({names})": [entry.path for entry in unknown],
    }
    return [f"Left out, {why}: {listed(paths)}." for why, paths in kinds.items() if paths]


def listed(paths: Sequence[Path]) -> str:
    """Return the first of the files and how many more there are."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more}"


def sort_out(
    found: Sequence[FoundResult], names: Iterable[str], lenient: bool = False
) -> dict[Key, tuple[Result, ...]]:
    """Return the results of these benchmarks by label and benchmark, each in the order of seeds.

    ``lenient`` allows other samplings. Raises DataError with a line for each result that differs from its benchmark's
    file (data, samples, sampling), repeats a label and seed, was judged by another verifier than the others, or has
    other weights than its row.
    """
    wanted = {name: [entry for entry in found if entry.result.benchmark == name] for name in dict.fromkeys(names)}
    complaints = [
        line
        for name, entries in wanted.items()
        if entries
        for line in [*each(entries, read_benchmark(name), lenient), *unlike(entries), *doubled(entries)]
    ]
    chosen = [entry for entries in wanted.values() for entry in entries]
    complaints += [*mixed_weights(chosen), *drawn_twice(chosen)]
    if complaints:
        raise DataError("\n".join(complaints))
    rows: dict[Key, list[Result]] = {}
    for entries in wanted.values():
        for entry in sorted(entries, key=lambda entry: entry.result.seed):
            rows.setdefault((entry.result.label, entry.result.benchmark), []).append(entry.result)
    return {key: tuple(results) for key, results in rows.items()}


def fitting(found: Sequence[FoundResult], name: str) -> tuple[list[Result], list[str]]:
    """Return the results of a benchmark that agree with the first, and one complaint about each of the others."""
    benchmark, fit, complaints = read_benchmark(name), list[FoundResult](), list[str]()
    for candidate in (candidate for candidate in found if candidate.result.benchmark == name):
        wrong = [
            *each([candidate], benchmark, lenient=False),
            *unlike([*fit[:1], candidate]),
            *doubled([*fit, candidate]),
        ]
        complaints += wrong[:1]
        fit += [] if wrong else [candidate]
    return [candidate.result for candidate in fit], complaints


def each(entries: Sequence[FoundResult], benchmark: Benchmark, lenient: bool) -> Iterator[str]:
    """Yield the differences between each result and its benchmark's file."""
    for entry in entries:
        result = entry.result
        if benchmark.sha256 and result.sha256 != benchmark.sha256:
            yield (
                f"{entry.path}: stale or foreign: its problems' sha256 is {result.sha256[:12]}..., that of "
                f"{benchmark.name} is {benchmark.sha256[:12]}...; evaluate anew"
            )
        if len(result.problems) != benchmark.problems:
            yield f"{entry.path}: {len(result.problems)} problems, {benchmark.name} has {benchmark.problems}"
        if result.samples != benchmark.samples:
            yield f"{entry.path}: {result.samples} samples a problem, {benchmark.name} asks for {benchmark.samples}"
        if result.sampling != benchmark.sampling and not lenient:
            yield (
                f"{entry.path}: drawn with {result.sampling}, {benchmark.name} says {benchmark.sampling}; "
                "`--any-sampling` shows it with a mark"
            )


def unlike(entries: Sequence[FoundResult]) -> Iterator[str]:
    """Yield the fields that must agree with the first result and do not; an empty verifier agrees only with another."""
    first = entries[0].result
    for other in entries[1:]:
        if other.result.verifier != first.verifier:
            yield (
                f"{other.path}: judged by {verifier_text(other.result.verifier)}, {entries[0].path} by "
                f"{verifier_text(first.verifier)}; "
                "verdicts of other versions do not compare: grade or evaluate anew"
            )
        if other.result.sha256 != first.sha256:  # also for benchmarks without a pinned checksum
            yield f"{other.path}: its problems' sha256 is {other.result.sha256[:12]}..., not that of {entries[0].path}"
        if other.result.problems != first.problems:
            yield f"{other.path}: its problems are others, or in another order, than those of {entries[0].path}"


def verifier_text(verifier: Mapping[str, object]) -> str:
    """Return a verifier's versions as text."""
    return json.dumps(verifier, sort_keys=True) if verifier else "a verifier that is not recorded"


def doubled(entries: Sequence[FoundResult]) -> Iterator[str]:
    """Yield results whose label and seed another result has too."""
    seen: dict[tuple[str, int], Path] = {}
    for entry in entries:
        key = entry.result.label, entry.result.seed
        if key in seen:
            yield (
                f"{entry.path}: {key[0]} seed {key[1]} on {entry.result.benchmark} is in {seen[key]} too; remove one, "
                "or give it another label or seed"
            )
        seen.setdefault(key, entry.path)


def mixed_weights(entries: Sequence[FoundResult]) -> Iterator[str]:
    """Yield results whose label and seed have other weights elsewhere: a row is one model."""
    seen: dict[tuple[str, int], FoundResult] = {}
    for entry in entries:
        if not entry.result.weights:
            continue
        first = seen.setdefault((entry.result.label, entry.result.seed), entry)
        if first.result.weights != entry.result.weights:
            yield (
                f"{entry.path}: its weights are {entry.result.weights[:12]}..., those of {first.path}, of the same "
                f"label and seed, {first.result.weights[:12]}...; two models cannot be one row"
            )


def drawn_twice(entries: Sequence[FoundResult]) -> Iterator[str]:
    """Yield results with the label and weights of another seed: the same model, not another training run."""
    seen: dict[tuple[str, str], FoundResult] = {}
    for entry in entries:
        if not entry.result.weights:
            continue
        first = seen.setdefault((entry.result.label, entry.result.weights), entry)
        if first.result.seed != entry.result.seed:
            yield (
                f"{entry.path}: seed {entry.result.seed} of {entry.result.label} has the weights of {first.path}, seed "
                f"{first.result.seed}: the same model drawn twice, not two training runs; give it a --label of its "
                "own, or remove one"
            )
