"""Reads ``sandbox/limits.yaml``."""

from __future__ import annotations

import functools
from dataclasses import fields
from pathlib import Path

import yaml

from archer.errors import UserError, did_you_mean
from archer.sandbox.base import Limits
from archer.system import suite


def load_limits(path: Path) -> Limits:
    """Read limits from a YAML file; keys that it leaves out keep their defaults.

    Raises :class:`~archer.errors.UserError` naming the file and the key for anything unexpected.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys and numbers, found {values!r}")
    kinds = {field.name: type(field.default) for field in fields(Limits)}
    for key, value in values.items():
        if key not in kinds:
            raise UserError(f"{path}: unknown key {key!r}{did_you_mean(str(key), kinds)}")
        wanted = (int, float) if kinds[key] is float else (int,)
        if isinstance(value, bool) or not isinstance(value, wanted) or value <= 0:
            raise UserError(f"{path}: {key}: expected a positive {kinds[key].__name__}, found {value!r}")
    return Limits(**values)


@functools.cache
def default_limits() -> Limits:
    """Return the limits of ``sandbox/limits.yaml``. Raises what :func:`load_limits` raises."""
    return load_limits(suite("sandbox") / "limits.yaml")
