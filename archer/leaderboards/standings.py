"""Results of a comparison -> standings -> files.

Reads what ``archer compare`` wrote: ``base/results/<benchmark>.json`` and
``<algorithm>/seed-<n>/results/<benchmark>.json``. Results of other problems, samplings or verifiers are refused,
because their difference would not be the models'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from archer.errors import DataError, RunFolderError
from archer.evaluation.named_metrics import find_metrics, score_bounds, trusted_metrics
from archer.leaderboards.layouts import markdown
from archer.leaderboards.ranking import BASE, BenchmarkEntry, ResponseDetail, Scores, Standings, TrainingCost, rank
from archer.leaderboards.tables import page, render
from archer.runs.folder import read_lines, read_manifest
from archer.runs.results import read_result
from archer.system import write_aside
from archer.types import AT_A_LIMIT, Result

__all__ = ["read_standings", "render", "table_files", "write_tables"]

ALIKE = (
    "sha256",
    "samples",
    "sampling",
    "problems",
    "verifier",
)  # fields in which all results of one benchmark must agree
UNTRAINED = ("evaluate", "write")  # timings that are not training
Results = Mapping[str, Mapping[str, Sequence[Result]]]  # by row and benchmark, one per seed


def read_standings(out: Path) -> Standings:
    """Read a comparison's results and training records, and compute its standings.

    Raises RunFolderError if ``out`` is not a comparison's folder, DataError if results are missing, damaged, or of
    different problems, samples, sampling or verifiers.
    """
    manifest = read_manifest(out)
    if manifest is None or not {"algorithms", "seeds", "recipe"} <= manifest.keys():
        raise RunFolderError(f"{out}: no manifest.json of a comparison; run `archer compare --out {out}` first")
    algorithms, seeds = list(manifest["algorithms"]), list(manifest["seeds"])
    try:
        benchmarks = list(manifest.get("benchmarks") or manifest["recipe"]["evaluate"]["benchmarks"])
    except (KeyError, TypeError) as error:
        raise RunFolderError(f"{out}/manifest.json: recipe: evaluate: benchmarks is missing; compare anew") from error
    if not benchmarks:
        raise DataError(f"{out}/manifest.json: recipe: evaluate: benchmarks is empty, so there is nothing to compare")
    results = {name: read_row(out, name, seeds, benchmarks) for name in algorithms}
    if (out / BASE).exists():
        results = {BASE: read_row(out, BASE, [0], benchmarks), **results}
    entries = [entry([result for row in results.values() for result in row[name]]) for name in benchmarks]
    details = {row: detail(by_benchmark) for row, by_benchmark in results.items()}
    costs = {name: cost([out / name / f"seed-{seed}" for seed in seeds]) for name in algorithms}
    return rank(score(results, entries), list(results), seeds, entries, (details, costs))


def entry(results: Sequence[Result]) -> BenchmarkEntry:
    """Return what a benchmark's results have in common. Raises DataError for results that do not compare."""
    refuse_unlike(results)
    first = results[0]
    return BenchmarkEntry(
        first.benchmark, len(first.problems), first.samples, contests(results), metrics_of(results),
        score_bounds(results), all(result.right_or_wrong for result in results),
    )  # fmt: skip


def metrics_of(results: Sequence[Result]) -> tuple[str, ...]:
    """Return the metrics that any of a benchmark's results names: its file may have changed between them."""
    return tuple(dict.fromkeys(name for result in results for name in trusted_metrics(result)))


def contests(results: Sequence[Result]) -> tuple[str, ...]:
    """Return each problem's contest, from the results that record it. Raises DataError if these differ."""
    by_clusters: dict[tuple[str, ...], Result] = {}
    for result in results:
        if result.clusters:
            by_clusters.setdefault(result.clusters, result)
    if len(by_clusters) > 1:
        first, other = list(by_clusters.values())[:2]
        raise DataError(
            f"{first.benchmark}: {other.label} seed {other.seed}: clusters are not those of {first.label} seed "
            f"{first.seed}; evaluate both with the same data"
        )
    return next(iter(by_clusters), ())


def read_row(out: Path, row: str, seeds: Sequence[int], benchmarks: Sequence[str]) -> dict[str, list[Result]]:
    """Return a row's results by benchmark, in the order of ``seeds``. Raises DataError naming missing results."""
    folders = {seed: out / row if row == BASE else out / row / f"seed-{seed}" for seed in seeds}
    missing = {
        seed: [name for name in benchmarks if not (folder / "results" / f"{name}.json").exists()]
        for seed, folder in folders.items()
    }
    lacking = "; ".join(f"seed {seed} lacks {', '.join(names)}" for seed, names in missing.items() if names)
    if lacking:
        raise DataError(
            f"{out / row}: {lacking.removeprefix('seed 0 ') if row == BASE else lacking}; run the same "
            "`archer compare` again, it goes on where it stopped"
        )
    return {
        name: [read_one(folder / "results" / f"{name}.json", row, seed, name) for seed, folder in folders.items()]
        for name in benchmarks
    }


def read_one(path: Path, row: str, seed: int, benchmark: str) -> Result:
    """Return a result. Raises DataError if its row, seed or benchmark are not those of its path."""
    result = read_result(path)
    expected, actual = (row, seed, benchmark), (result.label, result.seed, result.benchmark)
    if expected != actual:
        raise DataError(f"{path}: holds the result of {actual}, its path is that of {expected}; evaluate anew")
    return result


def refuse_unlike(results: Sequence[Result]) -> None:
    """Raise DataError unless all results have the same problems, sampling and verifier."""
    first = results[0]
    for other in results[1:]:
        for name in ALIKE:
            first_value, other_value = getattr(first, name), getattr(other, name)
            if first_value != other_value:
                detail = (
                    "are others or in another order" if name == "problems" else f"is {other_value}, not {first_value}"
                )
                raise DataError(
                    f"{first.benchmark}: {other.label} seed {other.seed}: {name} {detail} as in "
                    f"{first.label} seed {first.seed}; evaluate both with the same benchmark file and recipe"
                )


def score(results: Results, entries: Sequence[BenchmarkEntry]) -> Scores:
    """Return the S x P matrices of every row, benchmark and metric."""
    scores, named = {}, {entry.name: find_metrics(entry.metrics) for entry in entries}
    for row, by_benchmark in results.items():
        for name, by_seed in by_benchmark.items():
            for metric in named[name]:
                scores[row, name, metric.key] = np.stack([metric.values(result) for result in by_seed])
    return scores


def detail(by_benchmark: Mapping[str, Sequence[Result]]) -> ResponseDetail:
    """Return the properties of a row's responses, averaged over all samples."""
    results = list(chain.from_iterable(by_benchmark.values()))

    def flat(name: str) -> list[str]:
        return [value for result in results for row in getattr(result, name) for value in row]

    stops, reasons, tokens = flat("stops"), flat("reasons"), flat("tokens")
    seeds = len(results) / len(by_benchmark)
    return ResponseDetail(
        length=float(np.mean(np.asarray(tokens, dtype=float))),
        truncated=stops.count("length") / len(stops),
        no_answer=reasons.count("no_answer") / len(reasons),
        limited=sum(reason in AT_A_LIMIT for reason in reasons) / len(reasons),
        seconds=sum(result.seconds for result in results) / seeds,
    )


def cost(runs: Sequence[Path]) -> TrainingCost:
    """Return the responses and seconds of a training run, averaged over runs, from their records."""
    responses = sum(line.get("responses", 0) for run in runs for line in read_lines(run / "metrics.jsonl"))
    timings = [line for run in runs for line in read_lines(run / "timings.jsonl")]
    seconds = sum(value for line in timings for part, value in line.items() if part not in ("step", *UNTRAINED))
    return TrainingCost(responses / len(runs), seconds / len(runs))


def table_files(standings: Standings) -> dict[str, str]:
    """Return what a comparison's table files hold, by name."""
    return {"table.md": markdown(page(standings)), "table.csv": standings.to_pandas().to_csv(index=False)}


def write_tables(standings: Standings, out: Path) -> None:
    """Write ``table.md`` and ``table.csv``. Raises RunFolderError if they cannot be written."""
    try:
        for name, text in table_files(standings).items():
            write_aside(out / name, text)
    except OSError as error:
        raise RunFolderError(f"{out}: the tables could not be written: {error.strerror}") from error
