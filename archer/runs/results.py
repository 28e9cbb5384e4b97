"""Results as JSON files, one per model and benchmark; all tables are computed from them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from archer.errors import DataError
from archer.system import write_aside
from archer.types import Result


def write_result(result: Result, path: Path) -> None:
    """Write a result as JSON, and create its folder."""
    write_aside(path, json.dumps(asdict(result)) + "\n")


def read_result(path: Path) -> Result:
    """Read a result. Raises DataError with the file and the first fault if it is damaged."""
    try:
        return TypeAdapter(Result).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        why = f"{where}: {first['msg']}, found {first['input']!r:.60}" if where else first["msg"]
        raise DataError(f"{path}: not a result of `archer`: {why}") from error
    except (ValueError, DataError) as error:  # not JSON, not text, or a wrong shape
        raise DataError(f"{path}: not a result of `archer`: {error}") from error
