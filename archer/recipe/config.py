"""Reading YAML into typed, frozen dataclasses, with errors that name file, key, value and next step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from archer.errors import RecipeError, did_you_mean
from archer.types import Json

STRICT = ConfigDict(extra="forbid", strict=False)
T = TypeVar("T")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping a YAML file holds. Raises RecipeError."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


def assign(values: dict[str, Any], change: str) -> None:
    """Set one ``key.key=value`` in nested mappings; the value is read as YAML. Raises RecipeError."""
    put(values, *parse_change(change))


def parse_change(change: str) -> tuple[str, Any]:
    """Return key and value of a ``key.key=value``. Raises RecipeError."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {change}: expected key=value, as in --set update.lr=1e-4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {change}: {text!r} is not readable as YAML") from error
    return key, number(value) if isinstance(value, str) else value


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key in nested mappings. Raises RecipeError where a part of it holds no keys."""
    *parents, last = key.split(".")
    for parent in parents:
        if values.get(parent) is None:  # a section that was left out
            values[parent] = {}
        inner = values[parent]
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {key}={value}: {parent!r} holds {inner!r}, not keys of its own")
        values = inner
    values[last] = value


def number(text: str) -> float | str:
    """Read ``1e-4``, which YAML 1.1 takes for a string, as the number it is."""
    try:
        return float(text)
    except ValueError:
        return text


def typed(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build a frozen dataclass from plain values. Raises RecipeError with every problem found."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise RecipeError("\n".join(explain(kind, item, where) for item in error.errors())) from error


def explain(kind: type, item: Any, where: str) -> str:
    """Return one line for one of pydantic's errors."""
    *parents, last = [str(part) for part in item["loc"]] or ["?"]
    place = ": ".join([where, *parents])
    if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{place}: unknown key {last!r}{did_you_mean(last, keys_at(kind, parents))}"
    if item["type"] in ("missing", "missing_argument"):
        return f"{place}: missing key {last!r}"
    return f"{place}: {last}: {item['msg'][0].lower() + item['msg'][1:]} (found {item['input']!r})"


def keys_at(kind: Any, parents: Sequence[str]) -> list[str]:
    """Return the field names of the dataclass that ``parents`` lead to."""
    for part in parents:
        if part.isdigit():
            kind = kind.__args__[0]
        else:
            kind = get_type_hints(kind).get(part, kind) if is_dataclass(kind) else kind
    if getattr(kind, "__args__", None):
        kind = kind.__args__[0]
    return [one.name for one in fields(kind)] if is_dataclass(kind) else []


def merged(row: T, changes: Mapping[str, Json], where: str) -> T:
    """Return a dataclass with ``changes`` made, nested dataclasses too. Raises RecipeError."""
    values = {one.name: getattr(row, one.name) for one in fields(row) if one.init}  # type: ignore[arg-type]
    for key, value in changes.items():
        if key not in values:
            raise RecipeError(f"{where}: unknown key {key!r}{did_you_mean(key, values)}")
        if is_dataclass(values[key]) and not (isinstance(value, str) and names_a_part(row, key)):
            if not isinstance(value, Mapping):
                raise RecipeError(f"{where}: {key}: expected keys and values, found {value!r}")
            values[key] = merged(values[key], value, f"{where}: {key}")
        else:
            values[key] = value
    try:
        # Types are checked field by field against the class; __post_init__ checks contradictions.
        checked = {
            key: TypeAdapter(hint).validate_python(values[key])
            for key, hint in get_type_hints(type(row)).items()
            if key in changes and not is_dataclass(values[key])
        }
        return replace(row, **{**values, **checked})  # type: ignore[type-var]
    except (ValidationError, ValueError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise RecipeError(f"{where}: {dict(changes)}: {detail}") from error


def names_a_part(row: object, key: str) -> bool:
    """Whether a field of a dataclass holds a part or its name."""
    return str in get_args(get_type_hints(type(row))[key])
