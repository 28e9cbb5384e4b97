"""Selects rows by date, so that a model is asked only what appeared after its training data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from archer.errors import DataError
from archer.problems.formats.shaped import value


def in_window(row: Mapping[str, Any], key: str, since: str, until: str) -> bool:
    """Return whether a row's day is in [since, until); an empty bound is open. Raises DataError."""
    day = _day(str(value(row, key, object))[:10], key)
    return (not since or _day(since, "since") <= day) and (not until or day < _day(until, "until"))


def _day(text: str, key: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise DataError(f"{key}: expected a date such as 2024-08-01, found {text!r}") from error
