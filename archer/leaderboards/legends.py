"""How tables show a score, a difference and what they mean. Words only: no number is made here."""

from __future__ import annotations

import math

from archer.evaluation.named_metrics import with_k
from archer.evaluation.resampling import grouped
from archer.evaluation.statistics import Interval
from archer.leaderboards.ranking import Standings


def show(interval: Interval) -> str:
    """Return the interval as in ``0.72 [0.66, 0.78]``."""
    if math.isnan(interval.value):
        return "unknown"
    if math.isnan(interval.low):
        return f"{interval.value:.2f} [unknown]"
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def show_difference(difference: Interval) -> str:
    """Return the difference as in ``+0.35 [+0.28, +0.42]``; ``-0.00`` is slightly below zero."""
    if math.isnan(difference.low):
        return f"{difference.value:+.2f} [unknown]"
    return f"{difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"


def legend(standings: Standings) -> list[str]:
    """Return the notes below the tables, one or two sentences each."""
    counts = ", ".join(f"{entry.name} {entry.problems} x {entry.samples}" for entry in standings.benchmarks)
    seeds = len(standings.seeds)
    if seeds > 1:
        over = f"Mean over {seeds} training seeds with its 95% interval"
        noise = f"Intervals are over problems and, but for base (one model), the {seeds} seeds."
    else:
        over = "One training seed; the mean over problems with its 95% interval"
        noise = "Training noise is NOT covered: another seed may differ by more than the intervals say."
    drawn = [entry.name for entry in standings.benchmarks if grouped(entry.clusters, entry.problems) is not None]
    noise += f" Problems of one contest are drawn together: {', '.join(drawn)}." if drawn else ""
    bold = "a column without bold has no such row" if standings.bold else "no column has such a row"
    differences = (
        "Differences are paired by problem and, where both rows have seeds, by seed. Better or worse: the "
        "95% interval excludes zero. Uncorrected: Holm's p, for all comparisons of the column, is above 0.05."
    )
    return [
        f"{over}. Problems x samples: {counts}. {noise}",
        " ".join(f"{with_k(key)}: {said}." for key, said in told(standings).items()),
        f"Bold: better than every other row, each paired difference's interval above zero; {bold}.",
        differences,
    ]


RIGHT_OR_WRONG = {"avg": "share of right samples", "pass": "share of problems with a right sample among K"}


def told(standings: Standings) -> dict[str, str]:
    """Return what each metric of the tables is, in a few words."""
    found = {key: one.says for column in standings.columns for key, one in standings.metrics(column).items()}
    plain = RIGHT_OR_WRONG if all(entry.right_or_wrong for entry in standings.benchmarks) else {}
    return {key: plain.get(key, found[key]) for key in standings.keys}
