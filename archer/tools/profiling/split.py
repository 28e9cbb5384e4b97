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
    """A part of a step, per step: ``seconds``, ``calls``, the counted work and its need (None: no model work).

    ``operators`` and ``kernels`` are per call, from the trace (None: not traced); ``each`` has the seconds of every
    step.
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
        """The operators launched in a step."""
        return (self.operators or 0.0) * self.calls


@dataclass(frozen=True)
class StepSplit:
    """A step's rows, each part before the parts within it, its seconds, and the machine's rates."""

    rows: tuple[SplitRow, ...]
    seconds: float
    rates: MachineRates

    @property
    def leaves(self) -> list[SplitRow]:
        """The rows of the step's own thread that have no parts within them."""
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
    timed, steps = seen.parts[path], seen.steps
    work, need = worked(path, seen, costs)
    row = SplitRow(path, timed.seconds / steps, timed.calls / steps, work, need, each=tuple(timed.each))
    operators = traced.get(path)
    if operators is None or not operators.calls:
        return row
    return replace(row, operators=operators.operators / operators.calls, kernels=operators.kernels / operators.calls)


def worked(path: Path, seen: ProfiledSteps, costs: ModelCosts) -> tuple[PassWork | None, WorkNeed | None]:
    """Return a part's work per step and its need; None for a part without counted model work."""
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
    """Return the summed work of a part's rows; forward and backward passes over the same tokens count once."""
    works = [row.work for row in rows if row.work and row.path[1] != "backward"]
    if not works:
        return None
    return PassWork(*(sum(getattr(work, name) for work in works) for name in ("calls", "tokens", "pairs", "rows")))


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Return parts in order of first occurrence, each followed by the parts within it; other threads' parts last."""
    tops = list(dict.fromkeys(path[0] for path in paths))
    return sorted(paths, key=lambda path: (path[0].startswith(BESIDE), tops.index(path[0]), len(path)))
