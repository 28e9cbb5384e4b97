"""Metrics by the names that a benchmark gives, their values of a result, and the intervals of these.

Axes: S training seeds, P problems, K samples of a problem.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archer.errors import DataError, UserError, raised
from archer.evaluation.metrics import METRICS, Answers, Better, Metric
from archer.evaluation.statistics import ANY_NUMBER, SHARES, Array, Bounds, Clusters, Interval, mean_interval
from archer.parts import file_digest, find_part, is_outside, part_digests
from archer.types import Result


@dataclass(frozen=True)
class NamedMetric:
    """A metric as a benchmark names it: ``pass@k`` (k is all K samples), ``pass@8``, ``./file.py:NAME``."""

    name: str
    metric: Metric

    @property
    def key(self) -> str:
        """What tables know it by: ``pass``, or ``pass@8`` where k is not all samples."""
        own = getattr(self.metric, "title", None) or self.name.rpartition(":")[2]
        return f"{own}@{self.k}" if self.k else str(own)

    def title(self, samples: int | str | None) -> str:
        """Return the column's name, as in ``avg@16``, ``avg@K``, ``pass@8``."""
        return with_k(self.key, samples)

    @property
    def k(self) -> int:
        """The samples that it draws of the K; 0: all."""
        return int(getattr(self.metric, "k", 0))

    @property
    def says(self) -> str:
        """What it is, in a few words, for the notes below a table."""
        return str(getattr(self.metric, "says", "") or f"of {self.name}")

    @property
    def better(self) -> Better:
        """Which values are better."""
        better: Better = getattr(self.metric, "better", "higher")
        return better

    def bounds(self, values: Iterable[Array], scores: Bounds) -> Bounds:
        """Return what no value can exceed, given what ``scores`` cannot; any number if ``values`` already do."""
        declared = getattr(self.metric, "bounds", ANY_NUMBER)
        low, high = scores if declared is None else declared
        inside = all(((value >= low) & (value <= high)).all() for value in values)
        return (low, high) if inside else ANY_NUMBER

    def values(self, result: Result) -> Array:
        """Return the value of each problem, (P,). Raises UserError where a metric of one's own fails."""
        return self.of_samples(np.array(result.scores), np.array(result.passed), result.answers, result.benchmark)

    def refuse(self, samples: int) -> None:
        """Raise DataError for more draws than samples, and UserError for a metric of one's own that cannot be tried."""
        if self.k > samples:
            raise DataError(f"metrics: {self.name}: draws {self.k} of {samples} samples; raise samples or lower it")
        if not callable(self.metric):
            raise UserError(f"metrics: {self.name}: is {self.metric!r:.60}, expected a function or what can be called")
        if self.better not in ("higher", "lower", "neither"):
            raise UserError(f"metrics: {self.name}: better is {self.better!r}, expected higher, lower or neither")
        if self.name not in METRICS:
            scores_PK = np.linspace(0.0, 1.0, 2 * samples).reshape(2, samples)
            self.of_samples(scores_PK, scores_PK >= 0.5, (("a",) * samples,) * 2, "a trial")

    def of_samples(self, scores_PK: Array, passed_PK: NDArray[np.bool_], answers_PK: Answers, where: str) -> Array:
        """Return the value of each problem, (P,). Raises UserError, naming ``where``, as :meth:`values` does."""
        size = f"{len(scores_PK)} problems x {scores_PK.shape[1]} samples"
        try:
            values_P = np.asarray(self.metric(scores_PK, passed_PK, answers_PK), dtype=float)
        except Exception as error:  # whatever a user's metric raises
            raise UserError(f"metrics: {self.name}: raised {raised(error)} on {where} of {size}") from error
        if values_P.shape != (len(scores_PK),):
            raise UserError(
                f"metrics: {self.name}: returned the shape {values_P.shape} for {where} of {size}; expected one number "
                "a problem"
            )
        return values_P


def find_metric(name: str) -> NamedMetric:
    """Return the metric of that name. Raises UserError for an unknown one, naming the nearest."""
    drawn = re.fullmatch(r"(\w+)@(\d+)", name)
    stem = f"{drawn[1]}@k" if drawn else ""
    if drawn and stem in METRICS:
        shipped: Any = METRICS[stem]
        if "k" not in {field.name for field in fields(shipped)}:
            raise DataError(f"metrics: {name}: {stem} is of all K samples; write {stem}, and K under `samples`")
        if int(drawn[2]) < 1:
            raise DataError(f"metrics: {name}: draws no sample; write {stem} for all K, or a number of 1 or more")
        return NamedMetric(name, replace(shipped, k=int(drawn[2])))
    part: Any = find_part("metrics", name, METRICS)
    made: Any = part() if isinstance(part, type) and is_dataclass(part) else part
    return NamedMetric(name, made)


def find_metrics(names: Iterable[str]) -> tuple[NamedMetric, ...]:
    """Return the metrics of these names, the mean first: curves and what is said of a comparison rest on it.

    Raises DataError where two would be one column, and as :func:`find_metric`.
    """
    found: dict[str, NamedMetric] = {}
    for metric in map(find_metric, ("mean", *names)):
        before = found.setdefault(metric.key, metric)
        if type(before.metric) is not type(metric.metric) or before.metric != metric.metric:
            raise DataError(
                f"metrics: {before.name} and {metric.name} are both called {metric.key!r}; give one a title"
            )
    return tuple(found.values())


def shown_metrics(names: Sequence[str]) -> tuple[NamedMetric, ...]:
    """Return the metrics of these names as a score card shows them: the majority's stands beside pass@K."""
    return find_metrics((*names, "maj@k") if "pass@k" in names else names)


def trusted_metrics(result: Result) -> tuple[str, ...]:
    """Return a result's metrics, without those from outside whose source here is not the one that it records.

    A result may come from anybody, and names no file to run but the one that it was made with. Warns of what is left
    out.
    """
    sources = result.provenance.get("metrics") or {}
    kept = []
    for name in result.metrics:
        if is_outside(name) and sources.get(name) != file_digest(name):
            warnings.warn(
                f"{result.benchmark}: metric {name}: the file here is not the one that the result was made with "
                f"(sha256 {str(sources.get(name))[:12]}); it is left out",
                stacklevel=2,
            )
            continue
        kept.append(name)
    return tuple(kept)


def metric_sources(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return, as the ``metrics`` of a result's provenance, the source's sha256 of each that is not shipped, by name."""
    outside = [name for name in names if re.sub(r"@\d+$", "@k", name) not in METRICS]
    digests = part_digests([("metrics", name) for name in outside], {})
    return {"metrics": {name: digests[f"metrics: {name}"] for name in outside}} if outside else {}


def measured(metric: NamedMetric, result: Result) -> Interval:
    """Return a metric's mean over a result's problems with its 95 % interval; NaN where it cannot be told."""
    values_SP = metric.values(result)[None]
    clusters = [result.clusters] if result.clusters else ()
    return interval_of(metric, [values_SP], clusters, score_bounds([result]))


def interval_of(metric: NamedMetric, values_SP: Sequence[Array], clusters: Clusters, scores: Bounds) -> Interval:
    """Return the mean of matrices of a metric's values with its interval; NaN where a problem has no value."""
    if not all(np.isfinite(matrix_SP).all() for matrix_SP in values_SP):
        return Interval(np.nan, np.nan, np.nan, len(values_SP[0]), sum(matrix.shape[1] for matrix in values_SP))
    return mean_interval(*values_SP, clusters=clusters, bounds=metric.bounds(values_SP, scores))


def score_bounds(results: Iterable[Result]) -> Bounds:
    """Return 0 and 1 if every score lies within them; else scores may be any number."""
    inside = all(0 <= score <= 1 for result in results for row in result.scores for score in row)
    return SHARES if inside else ANY_NUMBER


def bounds_of(benchmarks: Sequence[Bounds]) -> Bounds:
    """Return what no score of several benchmarks can exceed."""
    return min(low for low, _ in benchmarks), max(high for _, high in benchmarks)


def with_k(metric: str, samples: int | str | None = None) -> str:
    """Return ``avg@16``, or ``avg@K`` without a number; ``pass@8`` has its own."""
    return metric if "@" in metric else f"{metric}@{samples or 'K'}"
