"""The split of a step: every part's seconds beside the least that its work needs on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from archer.system import PassWork
from archer.tools.profiling.roofline import MachineRates, ModelCosts, WorkNeed, backward, decode, forward, optimizer
from archer.tools.profiling.trace import TracedOperators
from archer.tools.profiling.watch import BESIDE, Path, ProfiledSteps

REST, OUTSIDE = "the rest", "outside of parts"
SAMPLING = ("prefill", "decode")


@dataclass(frozen=True)
class SplitRow:
    """A part of a step, per step: ``seconds``, ``calls``, the work counted and what it needs (None: no model's work).

    ``operators`` and ``kernels`` are those of one call, by the trace (None: not traced); ``each`` has every step's
    seconds.
    """

    path: Path
    seconds: float
    calls: float = 1.0
    work: PassWork | None = None
    need: WorkNeed | None = None
    operators: float | None = None
    kernels: float | None = None
    each: tuple[float, ...] = ()

    @property
    def launching(self) -> float:
        """Operators of a step."""
        return (self.operators or 0.0) * self.calls


@dataclass(frozen=True)
class StepSplit:
    """A step's rows, parts before what is within them, and what they are measured against."""

    rows: tuple[SplitRow, ...]
    seconds: float
    rates: MachineRates

    @property
    def leaves(self) -> list[SplitRow]:
        """Return the rows of the step's own time that have none within them."""
        paths = {row.path for row in self.rows}
        own = [row for row in self.rows if not row.path[0].startswith(BESIDE)]
        return [row for row in own if not any(len(other) > 1 and other[:-1] == row.path for other in paths)]


def split_of(
    seen: ProfiledSteps, rates: MachineRates, costs: ModelCosts, traced: Mapping[Path, TracedOperators]
) -> StepSplit:
    """Return the split of an average step."""
    total = sum(seen.seconds) / seen.steps
    rows: list[SplitRow] = []
    for top, paths in groupby(in_order(list(seen.parts)), key=lambda path: path[0]):
        inner = [measured(path, seen, costs, traced) for path in paths if len(path) == 2]
        whole = measured((top,), seen, costs, traced)
        if inner:
            needs = [row.need for row in inner if row.need]
            whole = replace(whole, need=sum(needs, WorkNeed()) if needs else None, work=together(inner, top))
            inner.append(SplitRow((top, REST), max(0.0, whole.seconds - sum(row.seconds for row in inner))))
        rows += [whole, *inner]
    own = sum(row.seconds for row in rows if len(row.path) == 1 and not row.path[0].startswith(BESIDE))
    rows.append(SplitRow((OUTSIDE,), max(0.0, total - own)))
    return StepSplit(tuple(rows), total, rates)


def measured(path: Path, seen: ProfiledSteps, costs: ModelCosts, traced: Mapping[Path, TracedOperators]) -> SplitRow:
    """Return the row of one part."""
    stretch, steps = seen.parts[path], seen.steps
    work, need = worked(path, seen, costs)
    row = SplitRow(path, stretch.seconds / steps, stretch.calls / steps, work, need, each=tuple(stretch.each))
    operators = traced.get(path)
    if operators is None or not operators.calls:
        return row
    return replace(row, operators=operators.operators / operators.calls, kernels=operators.kernels / operators.calls)


def worked(path: Path, seen: ProfiledSteps, costs: ModelCosts) -> tuple[PassWork | None, WorkNeed | None]:
    """Return a part's work a step, and what it needs; None where it has no model's work or nobody counted it."""
    if len(path) < 2:
        return None, None
    top, name = path
    if name == "optimizer":
        return None, optimizer(costs, 1).times(seen.parts[path].calls / seen.steps)
    counted = seen.work.get((top, name if name in SAMPLING else top))
    if counted is None:
        return None, None
    passes = {"decode": decode, "backward": backward}
    need = passes[name](costs, counted) if name in passes else forward(costs, counted, kept=top == "update")
    each = [round(number / seen.steps) for number in (counted.calls, counted.tokens, counted.pairs, counted.rows)]
    return PassWork(*each), need.times(1 / seen.steps)


def together(rows: Sequence[SplitRow], top: str) -> PassWork | None:
    """Return the work of a part by that of its rows; a forward and a backward pass are over the same tokens."""
    found = [row.work for row in rows if row.work and row.path[1] != "backward"]
    if not found:
        return None
    return PassWork(*(sum(getattr(one, name) for one in found) for name in ("calls", "tokens", "pairs", "rows")))


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Return parts as they first came, each followed by what is within it, and what ran beside them last."""
    tops = list(dict.fromkeys(path[0] for path in paths))
    return sorted(paths, key=lambda path: (path[0].startswith(BESIDE), tops.index(path[0]), len(path)))
