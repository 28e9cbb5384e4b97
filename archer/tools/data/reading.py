"""Read sources: every row becomes a candidate, or is counted with the reason why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from archer.errors import DataError
from archer.problems.rows import is_local, local_files, read_json, read_rows
from archer.rewards.golds import check_gold
from archer.tools.data.candidate import Candidate, Drop
from archer.tools.data.examples import contradicted, examples, shown, without
from archer.tools.data.origins import Origin
from archer.tools.data.parts import ParsedRow, Row, UnfitRow
from archer.tools.data.pipeline import Pipeline
from archer.tools.data.shapes import SHAPES
from archer.tools.data.work import LineWriter, Report

MALFORMED = "malformed row"


@dataclass(frozen=True)
class TakenRow:
    """A row that became a candidate, its number of ``tests``, and whether one contradicts an example."""

    candidate: Candidate
    tests: int = 0
    contradicted: bool = False


@dataclass
class RowCount:
    """What became of a source's rows. ``tests`` counts those in the rows and those left."""

    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first: str = ""
    tests: list[int] = field(default_factory=lambda: [0, 0])
    contradicted: int = 0

    def drop(self, drop: Drop) -> None:
        """Count a row that is not a candidate."""
        self.first = self.first or drop.detail
        self.dropped[drop.reason] += 1

    def take(self, taken: TakenRow) -> None:
        """Count a row that became a candidate."""
        self.tests[0] += taken.tests
        self.tests[1] += len(taken.candidate.gold["tests"]) if taken.tests else 0
        self.contradicted += taken.contradicted

    def report(self) -> Report:
        """Return the counts."""
        counts: Report = {"rows": self.rows, "dropped": dict(sorted(self.dropped.items()))}
        programs: Report = {"tests": self.tests, "contradicted": self.contradicted}
        return {**counts, **programs} if self.tests[0] else counts


def reader(pipeline: Pipeline, origin: Origin, drops: Path) -> Callable[[LineWriter], Report]:
    """Return the function that reads a source into candidates, writes its drops to a file, and reports both.

    Raises DataError for a file that is not JSON, and if no row at all can be read, which means another shape.
    """

    def read(lines: LineWriter) -> Report:
        count = RowCount()
        with drops.open("w", encoding="ascii") as refused:
            for where, row in located_rows(origin):
                count.rows += 1
                result = taken(pipeline, origin, count.rows, where, row)
                if isinstance(result, Drop):
                    count.drop(result)
                    refused.write(result.line())
                else:
                    count.take(result)
                    lines.write(result.candidate.line())
        if not lines.count:
            problem = (
                f"no row can be read as shape {origin.shape}; the first: {count.first}" if count.first else "no rows"
            )
            raise DataError(f"{origin.name}: {origin.path}: {problem}")
        return count.report()

    return read


def located_rows(origin: Origin) -> Iterator[tuple[str, Row]]:
    """Yield every row with its location."""
    source = origin.rows
    if is_local(source):
        for file in local_files(Path(str(source.path)), source.files):
            for number, row in enumerate(read_json(file), 1):
                yield f"{file}: row {number}", row
    else:
        for number, row in enumerate(read_rows(source), 1):
            yield f"{origin.path}: row {number}", row


def taken(pipeline: Pipeline, origin: Origin, number: int, where: str, row: Row) -> TakenRow | Drop:
    """Return a row's candidate, or why it is not one."""
    name = f"{origin.name}/{number}"
    try:
        if not isinstance(row, dict):
            raise DataError(f"expected columns and values, found {str(row)[:80]!r}")
        parts = SHAPES[origin.shape](row)
        if isinstance(parts, UnfitRow):
            return Drop(name, parts.reason, f"{where}: {parts.detail}" if parts.detail else where)
        if pipeline.reward == "code":
            check_gold(parts.gold)
            return _program(pipeline, origin, name, parts)
    except DataError as error:
        return Drop(name, MALFORMED, f"{where}: {error}")
    return TakenRow(Candidate(name, origin.name, parts.statement, parts.gold))


def _program(pipeline: Pipeline, origin: Origin, name: str, parts: ParsedRow) -> TakenRow:
    known = [*examples(parts.statement), *parts.examples]
    gold = without(parts.gold, shown(parts.gold, known)) if pipeline.drop_examples else parts.gold
    candidate = Candidate(name, origin.name, parts.statement, gold, parts.starter, parts.prompt)
    return TakenRow(candidate, len(parts.gold["tests"]), contradicted(parts.gold, known))
