"""Results of one evaluation as a table: scores, intervals, and the counts that show how reliable they are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from archer.evaluation.named_metrics import NamedMetric, measured, shown_metrics, trusted_metrics
from archer.types import Json, Result

T = TypeVar("T")
RESPONSES = ("cut off", "no answer", "tokens", "seconds")
WIDTH = 110  # characters of the table's width without a terminal


def scorecard(results: Sequence[Result]) -> RenderableType:
    """Return the table, followed by every benchmark's verdict reasons, versions and notes."""
    table = Table(box=None, pad_edge=False)
    names = titles(results)
    for index, name in enumerate(header(names)):
        table.add_column(name, justify="right" if index else "left", no_wrap=index in (0, 2))
    for result in results:
        table.add_row(*cells(result, names))
    return Group(table, "", *(under(result) for result in results))


def header(names: Sequence[str]) -> list[str]:
    """Return the columns' names: the mean with its interval, the other metrics, what the responses were like."""
    mean, *others = names
    return ["benchmark", mean, "95% interval", *others, *RESPONSES]


def titles(results: Sequence[Result]) -> list[str]:
    """Return the names of all metrics that a benchmark among the results asks for."""
    return list(dict.fromkeys(metric.title("K") for result in results for metric in asked(result)))


def asked(result: Result) -> tuple[NamedMetric, ...]:
    """Return a result's metrics; the majority's stands beside pass@K."""
    return shown_metrics(trusted_metrics(result))


def cells(result: Result, columns: Sequence[str]) -> list[str]:
    """Return a result's row, under the metrics' names of :func:`titles`."""
    metrics = {metric.title("K"): metric for metric in asked(result)}
    avg = measured(metrics[columns[0]], result)
    tokens = flat(result.tokens)
    return [
        f"{result.benchmark} ({len(result.problems)} x {result.samples})",
        f"{avg.value:.3f}",
        "unknown" if math.isnan(avg.low) else f"[{avg.low:.3f}, {avg.high:.3f}]",
        *(value(metrics.get(name), result) for name in columns[1:]),
        f"{share(result.stops, 'length'):.1%}",
        f"{share(result.reasons, 'no_answer'):.1%}",
        f"{np.mean(tokens):,.0f}",
        f"{result.seconds:,.1f}",
    ]


def value(metric: NamedMetric | None, result: Result) -> str:
    """Return a metric's mean; a dash where it is not asked for or cannot be told, as maj@K of one sample a problem."""
    mean = float(metric.values(result).mean()) if metric else math.nan
    return f"{mean:.3f}" if math.isfinite(mean) else "-"


def under(result: Result) -> str:
    """Return the lines below the table: verdict reasons, the verifier's versions, notes."""
    counts = Counter(flat(result.reasons)).most_common()
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts)
    versions = "; ".join(f"{name} {words(one)}" for name, one in result.verifier.items())
    notes = [f"  note: {note}" for note in result.provenance.get("notes", ())]
    drawn = f"{sum(flat(result.tokens)):,} tokens"
    return "\n".join([f"{result.benchmark}: {reasons}; {drawn}", f"  verifier: {versions or 'not recorded'}", *notes])


def words(values: Json) -> str:
    """Return nested values on one line."""
    if not isinstance(values, Mapping):
        return str(values)
    return "(" + ", ".join(f"{name} {words(value)}" for name, value in values.items()) + ")"


def share(rows: Sequence[Sequence[str]], word: str) -> float:
    """Return the share of samples with this value."""
    return float(np.mean([value == word for value in flat(rows)]))


def flat(rows: Sequence[Sequence[T]]) -> list[T]:
    """Return all samples in one list."""
    return list(chain.from_iterable(rows))
