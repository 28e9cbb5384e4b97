"""A build's report as a table: for every source and step what came in, what went out, and why not the rest. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from archer.types import Json

HEAD = f"{'':24}{'in':>9}{'out':>9}{'dropped':>9}{'seconds':>9}  why"


def table(manifest: Mapping[str, Json], seconds: Mapping[str, float]) -> str:
    """Return the table of a manifest; a stage without a recorded time has a dash."""
    lines, left = [HEAD], 0
    for name, report in manifest["sources"].items():
        left += report["lines"]
        lines.append(line(name, report["rows"], report["lines"], report["dropped"], seconds.get(name)))
        lines += told_tests(report)
    for number, (name, report) in enumerate(manifest["steps"].items(), 1):
        if "not_done" in report:
            lines.append(f"{name:24}{left:>9,}{left:>9,}{'':>18}  NOT DONE: {report['not_done']}")
            continue
        after = left - report["lines"]
        lines.append(line(name, left, after, report["dropped"], seconds.get(f"{number:02d}-{name}")))
        counts = right(report.get("right") or {})
        lines += [f"  right of {len(report['right']) - 1}: {counts}"] if counts else []
        left = after
    lines.append(line("written", left, manifest["rows"], {}, seconds.get("write")))
    return "\n".join(lines)


def told_tests(report: Mapping[str, Json]) -> list[str]:
    """Return the lines on a source's tests."""
    before, after = report.get("tests") or (0, 0)
    lines = []
    if before != after:
        lines.append(f"  {before:,} tests, of which {before - after:,} are examples in their statements: dropped")
    if report.get("contradicted"):
        why = "several outputs may be right there, which exact comparison does not know"
        lines.append(f"  {report['contradicted']:,} problems expect other output than their statement shows: {why}")
    return lines


def line(name: str, before: int, after: int, reasons: Mapping[str, int], seconds: float | None) -> str:
    """Return the line of one source or step."""
    why = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.items())
    clock = "-" if seconds is None else f"{seconds:,.1f}"
    return f"{name:24}{before:>9,}{after:>9,}{before - after:>9,}{clock:>9}  {why}".rstrip()


def right(counts: Mapping[str, int]) -> str:
    """Return the number of problems for each number of right samples."""
    return ", ".join(f"{number}: {count:,}" for number, count in counts.items() if count)


def closing(manifest: Mapping[str, Json], path: str) -> str:
    """Return how to use the rows, and what was not done to them."""
    pipeline = manifest["pipeline"]
    lines = [f"{path}: {manifest['rows']:,} rows, sha256 {manifest['sha256'][:16]}; as a recipe's source:"]
    lines.append(f"  data: [{{name: {pipeline['name']}, path: {path}, reward: {pipeline['reward']}}}]")
    if not manifest["rows"]:
        lines = [f"{path}: NO ROWS are left: see which step dropped them, and {path.rpartition('/')[0]}/work for why"]
    if manifest["not_done"]:
        reasons = "; ".join(f"{name}: {why}" for name, why in manifest["not_done"].items())
        lines.append(f"NOT the whole pipeline {pipeline['name']}: {reasons}")
    return "\n".join(lines)
