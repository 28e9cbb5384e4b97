"""The profile as text: where a step's time goes, the least time its work needs, and what bounds each part."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from archer.terminal import terminal
from archer.tools.profiling.roofline import MachineRates
from archer.tools.profiling.split import REST, SplitRow, StepSplit
from archer.tools.profiling.trace import TracedOperators
from archer.tools.profiling.watch import BESIDE, Path

WIDTH = 150
COLUMNS = ("seconds", "share", "calls", "tokens", "pairs", "rows", "GFLOP", "GB", "GFLOP/s", "least s", "by", "x least",
           "MFU", "ops/call", "kernels/call")  # fmt: skip
TOP = 12  # operators printed
NEAR = 2.0  # a part within this multiple of its least time is explained by the roofline
UNEVEN = 3.0  # a part whose slowest step takes this multiple of its fastest is called uneven
MOST = 0.5  # a part with this share of its time in launches is explained by launching


def show(split: StepSplit, operators: Mapping[Path, TracedOperators], header: str) -> None:
    """Print the profile below ``header``."""
    console = terminal()
    console = console if console.is_terminal and console.width >= WIDTH else terminal(width=WIDTH)
    for part in (f"\n{header}\n{roof(split.rates)}\n", table(split), top(operators), f"\n{words(split)}\n"):
        console.print(part, highlight=False, markup=False)


def roof(rates: MachineRates) -> str:
    """Return the sentence on the machine's rates."""
    return (
        f"The roof, measured here: {rates.flops / 1e9:,.0f} GFLOP/s in large products, {rates.bytes / 1e9:,.1f} GB/s "
        f"in copies, {1e6 * rates.operator:.1f} us for an operator that does nothing"
    )


def table(split: StepSplit) -> Table:
    """Return the split as a table, one row per part."""
    made = Table(title="a step by part", box=None, title_justify="left", pad_edge=False)
    made.add_column("part")
    for name in COLUMNS:
        made.add_column(name, justify="right", no_wrap=True)
    for row in split.rows:
        made.add_row("  " * (len(row.path) - 1) + row.path[-1], *cells(row, split))
    made.add_row("the step", f"{split.seconds:.3f}", style="bold")
    return made


def cells(row: SplitRow, split: StepSplit) -> list[str]:
    """Return a row's cells; a dot for a missing value."""
    work, need, rates = row.work, row.need, split.rates
    counted = [f"{number:,}" for number in (work.tokens, work.pairs, work.rows)] if work else [".", ".", "."]
    share = "." if row.path[0].startswith(BESIDE) else f"{row.seconds / split.seconds:.1%}"
    cost = ["."] * 7
    if need is not None and row.seconds:
        speed, least = need.flops / row.seconds, rates.least(need)
        flops = [f"{need.flops / 1e9:.2f}", f"{need.bytes / 1e9:.3f}", f"{speed / 1e9:.1f}"] if need.flops else [
            ".", f"{need.bytes / 1e9:.3f}", "."]  # fmt: skip
        mfu = f"{(need.flops - need.again) / row.seconds / rates.flops:.1%}" if need.flops else "."
        cost = [*flops, f"{least:.4f}", rates.bound(need), f"{row.seconds / least:.1f}", mfu]
    each = ["." if number is None else f"{number:,.0f}" for number in (row.operators, row.kernels)]
    each[1] = each[1] if row.kernels else "."
    return [f"{row.seconds:.4f}", share, f"{row.calls:,.0f}", *counted, *cost, *each]


def top(operators: Mapping[Path, TracedOperators]) -> Table:
    """Return the table of operators with most self time in the traced step."""
    made = Table(title="\noperators by self time in the trace", box=None, title_justify="left", pad_edge=False)
    for name in ("part", "operator", "ms", "calls"):
        made.add_column(name, justify="left" if name in ("part", "operator") else "right")
    spent = [(us, path, name) for path, part in operators.items() for name, us in part.microseconds.items()]
    for us, path, name in sorted(spent, reverse=True)[:TOP]:
        count = operators[path].counts.get(name, 0)
        made.add_row("/".join(path), name, f"{us / 1000:.1f}", f"{count:,}" if count else ".")
    return made


def words(split: StepSplit) -> str:
    """Return sentences on where the time goes and what bounds the largest parts."""
    leaves = sorted(split.leaves, key=lambda row: -row.seconds)
    large = [row for row in leaves if row.seconds > 0.1 * split.seconds][:3] or leaves[:1]
    needs = [row.need for row in split.leaves if row.need]
    least = sum(split.rates.least(need) for need in needs)
    ideal = (
        f" All parts' work needs {least:.3f} s by the roofline: the step stands {split.seconds / least:.1f}x from it."
        if least else ""
    )  # fmt: skip
    return f"A step takes {split.seconds:.3f} s." + "".join(f" {sentence(row, split)}" for row in large) + ideal


def sentence(row: SplitRow, split: StepSplit) -> str:
    """Return one part's share, and what its time is spent on as far as counts show."""
    name = "/".join(row.path)
    begin = f"{name[0].upper()}{name[1:]} takes {row.seconds / split.seconds:.0%}"
    if row.each and max(row.each) > UNEVEN * min(row.each):
        begin += f" (unevenly: {min(row.each):.3f} to {max(row.each):.3f} s)"
    if row.need is None:
        why = "what none of its parts accounts for" if row.path[-1] == REST else "no work of the model is counted there"
        return f"{begin}; {why}."
    rates = split.rates
    least, bound = rates.least(row.need), rates.bound(row.need)
    roofs = {"flops": "arithmetic", "bytes": "memory bandwidth"}
    launching = row.launching * rates.operator
    start = f"{begin}, {row.seconds / least:.1f}x the {least:.4f} s that {roofs[bound]} allows"
    if row.seconds <= NEAR * least:
        return f"{start}: it is bound by {roofs[bound]}."
    if launching >= MOST * row.seconds:
        return (
            f"{start}: launching {row.operators:,.0f} operators a call, {launching:.3f} s if they did nothing, bounds "
            "it; fewer and larger ones help, a faster device does not."
        )
    if row.operators is None:
        return f"{start}; what it launches was not traced."
    return (
        f"{start}; launching {row.operators:,.0f} operators a call explains {launching / row.seconds:.0%} of it, "
        "the rest is in operators far from the roof (see those with most self time)."
    )
