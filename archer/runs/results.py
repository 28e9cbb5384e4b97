"""Results as files: one JSON of one model on one benchmark, from which every number of every table is computed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from archer.errors import DataError
from archer.system import write_aside
from archer.types import Result


def write_result(result: Result, path: Path) -> None:
    """Write a result as JSON, its folder too where there is none."""
    write_aside(path, json.dumps(asdict(result)) + "\n")


def read_result(path: Path) -> Result:
    """Read one result. Raises DataError naming the file when it is damaged, with the first of what is wrong."""
    try:
        return TypeAdapter(Result).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        why = f"{where}: {first['msg']}, found {first['input']!r:.60}" if where else first["msg"]
        raise DataError(f"{path}: not a result of `archer`: {why}") from error
    except (ValueError, DataError) as error:  # no JSON, no text; a wrong shape
        raise DataError(f"{path}: not a result of `archer`: {error}") from error
