"""Results as JSON files, one per model and benchmark; all tables are computed from them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from archer.errors import DataError
from archer.system import write_aside
from archer.types import DEFAULT_METRICS, Json, Result


def write_result(result: Result, path: Path) -> None:
    """Write a result as JSON, and create its folder; scores of right and wrong and default metrics are left out."""
    values = asdict(result)
    if result.right_or_wrong:
        del values["scores"]
    if result.metrics == DEFAULT_METRICS:
        del values["metrics"]
    write_aside(path, json.dumps(values) + "\n")


def read_result(path: Path) -> Result:
    """Read a result, of any version. Raises DataError with the file and the first fault if it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        before = isinstance(values, dict) and "outcomes" in values
        return of_outcomes(values) if before else TypeAdapter(Result).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        why = f"{where}: {first['msg']}, found {first['input']!r:.60}" if where else first["msg"]
        raise DataError(f"{path}: not a result of `archer`: {why}") from error
    except (ValueError, DataError) as error:  # not JSON, not text, or a wrong shape
        raise DataError(f"{path}: not a result of `archer`: {error}") from error


def of_outcomes(values: dict[str, Json]) -> Result:
    """Return a result of before there were scores: its ``outcomes`` are right exactly where the reason is "right"."""
    result = TypeAdapter(Result).validate_python(
        {**{name: value for name, value in values.items() if name != "outcomes"}, "passed": values["outcomes"]}
    )
    if result.passed != tuple(tuple(reason == "right" for reason in row) for row in result.reasons):
        raise DataError(f"{result.benchmark}: outcomes and reasons contradict each other: only 'right' is right")
    return result
