"""Results of any origin -> rows of a table, or a refusal that names every file that does not belong."""

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
    """Results, the JSON files among them that are none, and what is wrong with files that have to be results."""

    found: tuple[FoundResult, ...]
    others: tuple[Path, ...]
    damaged: tuple[str, ...]


def gather(folders: Iterable[Path]) -> CollectedResults:
    """Read every JSON file below the folders, but manifests, checkpoints and the points of learning curves.

    What lies directly in a folder named ``results`` has to be a result; what lies elsewhere may be anything, as what
    other programs write. Raises DataError for a folder that is not there.
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
    """Say whether a file holds no score by its place: a manifest, a checkpoint, a point of a learning curve."""
    parts = [folder.resolve().name, *path.relative_to(folder).parts]
    points = any(one == "results" and other.startswith("step-") for one, other in pairwise(parts))
    return path.name == "manifest.json" or "checkpoints" in parts or points


def collect(folders: Iterable[Path]) -> CollectedResults:
    """Return what :func:`gather` finds. Raises DataError for files that have to be results and are not."""
    gathered = gather(folders)
    if gathered.damaged:
        raise DataError("\n".join(gathered.damaged))
    return gathered


def left_out(gathered: CollectedResults) -> list[str]:
    """Return a sentence on each kind of file that no table shows, with how many there are."""
    known = benchmark_names()
    strange = [one for one in gathered.found if one.result.benchmark not in known]
    names = ", ".join(sorted({one.result.benchmark for one in strange}))
    kinds = {
        "no results of `archer eval`": gathered.others,
        f"of what is no benchmark ({names})": [one.path for one in strange],
    }
    return [f"Left out, {why}: {listed(paths)}." for why, paths in kinds.items() if paths]


def listed(paths: Sequence[Path]) -> str:
    """Return how many files there are, and the first of them."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more}"


def sort_out(
    found: Sequence[FoundResult], names: Iterable[str], lenient: bool = False
) -> dict[Key, tuple[Result, ...]]:
    """Return the results of these benchmarks by label and benchmark, each in the order of seeds.

    ``lenient`` allows other samplings. Raises DataError with a line for each result that is stale (of other
    data than the benchmark's file pins now), foreign, doubled, or judged by another verifier than the others.
    """
    wanted = {name: [one for one in found if one.result.benchmark == name] for name in dict.fromkeys(names)}
    complaints = [
        line
        for name, ones in wanted.items()
        if ones
        for line in [*each(ones, read_benchmark(name), lenient), *unlike(ones), *doubled(ones)]
    ]
    chosen = [one for ones in wanted.values() for one in ones]
    complaints += [*mixed_weights(chosen), *drawn_twice(chosen)]
    if complaints:
        raise DataError("\n".join(complaints))
    rows: dict[Key, list[Result]] = {}
    for ones in wanted.values():
        for one in sorted(ones, key=lambda one: one.result.seed):
            rows.setdefault((one.result.label, one.result.benchmark), []).append(one.result)
    return {key: tuple(results) for key, results in rows.items()}


def fitting(found: Sequence[FoundResult], name: str) -> tuple[list[Result], list[str]]:
    """Return the results of a benchmark that belong together, from the first on, and what keeps the others out."""
    benchmark, kept, complaints = read_benchmark(name), list[FoundResult](), list[str]()
    for one in (one for one in found if one.result.benchmark == name):
        wrong = [*each([one], benchmark, lenient=False), *unlike([*kept[:1], one]), *doubled([*kept, one])]
        complaints += wrong[:1]
        kept += [] if wrong else [one]
    return [one.result for one in kept], complaints


def each(ones: Sequence[FoundResult], benchmark: Benchmark, lenient: bool) -> Iterator[str]:
    """Yield what is wrong with each result by itself."""
    for one in ones:
        result = one.result
        if benchmark.sha256 and result.sha256 != benchmark.sha256:
            yield (
                f"{one.path}: stale or foreign: its problems' sha256 is {result.sha256[:12]}..., that of "
                f"{benchmark.name} is {benchmark.sha256[:12]}...; evaluate anew"
            )
        if len(result.problems) != benchmark.problems:
            yield f"{one.path}: {len(result.problems)} problems, {benchmark.name} has {benchmark.problems}"
        if result.samples != benchmark.samples:
            yield f"{one.path}: {result.samples} samples a problem, {benchmark.name} asks for {benchmark.samples}"
        if result.sampling != benchmark.sampling and not lenient:
            yield (
                f"{one.path}: drawn with {result.sampling}, {benchmark.name} says {benchmark.sampling}; "
                "`--any-sampling` shows it with a mark"
            )


def unlike(ones: Sequence[FoundResult]) -> Iterator[str]:
    """Yield what differs from the first result where all must agree. Empty verifiers agree with each other only."""
    first = ones[0].result
    for other in ones[1:]:
        if other.result.verifier != first.verifier:
            yield (
                f"{other.path}: judged by {told(other.result.verifier)}, {ones[0].path} by {told(first.verifier)}; "
                "verdicts of other versions do not compare: grade or evaluate anew"
            )
        if other.result.sha256 != first.sha256:  # a benchmark that pins none yet still has one data set a table
            yield f"{other.path}: its problems' sha256 is {other.result.sha256[:12]}..., not that of {ones[0].path}"
        if other.result.problems != first.problems:
            yield f"{other.path}: its problems are others, or in another order, than those of {ones[0].path}"


def told(verifier: Mapping[str, object]) -> str:
    """Return a verifier's versions as text."""
    return json.dumps(verifier, sort_keys=True) if verifier else "a verifier that is not recorded"


def doubled(ones: Sequence[FoundResult]) -> Iterator[str]:
    """Yield results of one label and seed."""
    seen: dict[tuple[str, int], Path] = {}
    for one in ones:
        key = one.result.label, one.result.seed
        if key in seen:
            yield (
                f"{one.path}: {key[0]} seed {key[1]} on {one.result.benchmark} is in {seen[key]} too; remove one, or "
                "give it another label or seed"
            )
        seen.setdefault(key, one.path)


def mixed_weights(found: Sequence[FoundResult]) -> Iterator[str]:
    """Yield results whose label and seed name other weights elsewhere: a row is one model."""
    seen: dict[tuple[str, int], FoundResult] = {}
    for one in found:
        if not one.result.weights:
            continue
        first = seen.setdefault((one.result.label, one.result.seed), one)
        if first.result.weights != one.result.weights:
            yield (
                f"{one.path}: its weights are {one.result.weights[:12]}..., those of {first.path}, of the same label "
                f"and seed, {first.result.weights[:12]}...; two models cannot be one row"
            )


def drawn_twice(found: Sequence[FoundResult]) -> Iterator[str]:
    """Yield results of one label and the same weights under another seed, which would count as a training run."""
    seen: dict[tuple[str, str], FoundResult] = {}
    for one in found:
        if not one.result.weights:
            continue
        first = seen.setdefault((one.result.label, one.result.weights), one)
        if first.result.seed != one.result.seed:
            yield (
                f"{one.path}: seed {one.result.seed} of {one.result.label} has the weights of {first.path}, seed "
                f"{first.result.seed}: the same model drawn twice, not two training runs; give it a --label of its "
                "own, or remove one"
            )
