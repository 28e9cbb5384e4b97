"""Results of any origin -> rows of a table, or a refusal that names every file that does not belong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from archer.benchmark import Benchmark, read_benchmark
from archer.errors import DataError
from archer.result import Result, read_result

Key = tuple[str, str]  # label and benchmark


@dataclass(frozen=True)
class Found:
    """A result and its file."""

    path: Path
    result: Result


def collect(folders: Iterable[Path]) -> list[Found]:
    """Read every result below the folders, but manifests and the points of learning curves, which are no scores.

    Raises DataError for a folder that is not there or a file that is no result.
    """
    found: dict[Path, Found] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of results; give one with --results")
        for path in sorted(folder.rglob("*.json")):
            inside = path.relative_to(folder)
            if path.name != "manifest.json" and not any(part.startswith("step-") for part in inside.parts):
                found.setdefault(path.resolve(), Found(path, read_result(path)))
    return list(found.values())


def sort_out(found: Sequence[Found], names: Iterable[str], lenient: bool = False) -> dict[Key, tuple[Result, ...]]:
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
    complaints += mixed_weights([one for ones in wanted.values() for one in ones])
    if complaints:
        raise DataError("\n".join(complaints))
    rows: dict[Key, list[Result]] = {}
    for ones in wanted.values():
        for one in sorted(ones, key=lambda one: one.result.seed):
            rows.setdefault((one.result.label, one.result.benchmark), []).append(one.result)
    return {key: tuple(results) for key, results in rows.items()}


def each(ones: Sequence[Found], benchmark: Benchmark, lenient: bool) -> Iterator[str]:
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


def unlike(ones: Sequence[Found]) -> Iterator[str]:
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


def doubled(ones: Sequence[Found]) -> Iterator[str]:
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


def mixed_weights(found: Sequence[Found]) -> Iterator[str]:
    """Yield results whose label and seed name other weights elsewhere: a row is one model."""
    seen: dict[tuple[str, int], Found] = {}
    for one in found:
        if not one.result.weights:
            continue
        first = seen.setdefault((one.result.label, one.result.seed), one)
        if first.result.weights != one.result.weights:
            yield (
                f"{one.path}: its weights are {one.result.weights[:12]}..., those of {first.path}, of the same label "
                f"and seed, {first.result.weights[:12]}...; two models cannot be one row"
            )
