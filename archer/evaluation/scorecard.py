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

from archer.evaluation.statistics import avg_at_k, maj_at_k, mean_interval, pass_at_k, votable
from archer.types import Json, Result

T = TypeVar("T")
HEADER = ("benchmark", "avg@K", "95% interval", "pass@K", "maj@K", "cut off", "no answer", "tokens", "seconds")
WIDTH = 110  # characters of the table's width without a terminal


def scorecard(results: Sequence[Result]) -> RenderableType:
    """Return the table, followed by every benchmark's verdict reasons, versions and notes."""
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(HEADER):
        table.add_column(name, justify="right" if index else "left", no_wrap=not index)
    for result in results:
        table.add_row(*cells(result))
    return Group(table, "", *(under(result) for result in results))


def cells(result: Result) -> list[str]:
    """Return a result's row."""
    clusters = [result.clusters] if result.clusters else ()
    avg = mean_interval(avg_at_k(result.outcomes)[None], clusters=clusters)
    tokens = flat(result.tokens)
    return [
        f"{result.benchmark} ({len(result.problems)} x {result.samples})",
        f"{avg.value:.3f}",
        "unknown" if math.isnan(avg.low) else f"[{avg.low:.3f}, {avg.high:.3f}]",
        f"{pass_at_k(result.outcomes, result.samples).mean():.3f}",
        majority(result),
        f"{share(result.stops, 'length'):.1%}",
        f"{share(result.reasons, 'no_answer'):.1%}",
        f"{np.mean(tokens):,.0f}",
        f"{result.seconds:,.1f}",
    ]


def majority(result: Result) -> str:
    """Return maj@K, or a dash if samples cannot vote: one per problem, or programs, which have no answer text."""
    if not votable(result.outcomes, result.answers):
        return "-"
    return f"{maj_at_k(result.outcomes, result.answers).mean():.3f}"


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
