"""Every key of a recipe with its type, its default and what it means: what ``archer recipe --keys`` prints."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from archer.recipe import sections

BOUNDS = {"ge": ">=", "gt": ">", "lt": "<", "le": "<="}
REQUIRED = "required"


@dataclass(frozen=True)
class RecipeKey:
    """One key. ``name`` is dotted; ``data[].path`` is a key of every entry of the list ``data``.

    ``kind`` is the type in words with its bounds, ``default`` is JSON (which is YAML), ``required``, or empty for a
    section, whose keys have defaults of their own. ``meaning`` is the docstring under the field; that of a section's
    class where the key holds a section.
    """

    name: str
    kind: str
    default: str
    meaning: str


def recipe_keys(section: type = sections.Recipe, prefix: str = "") -> Iterator[RecipeKey]:
    """Yield the keys of a section and of all sections in it, in the order of the source."""
    hints, told = get_type_hints(section, include_extras=True), field_docstrings(section)
    for one in fields(section):
        hint, name = hints[one.name], prefix + one.name
        inner = section_of(hint)
        meaning = told.get(one.name) or (inner.__doc__ or "" if inner else "")
        yield RecipeKey(name, type_words(hint), default_of(one), " ".join(meaning.split()))
        if inner:
            yield from recipe_keys(inner, f"{name}[]." if get_origin(hint) is tuple else f"{name}.")


@cache
def field_docstrings(section: type) -> Mapping[str, str]:
    """Return the string under each field of a class, by field; fields without one are left out.

    Read from the source: pydantic's own ``use_attribute_docstrings`` would do it anew at every recipe, 0.1 s each.
    """
    [body] = [node.body for node in ast.parse(inspect.getsource(section)).body if isinstance(node, ast.ClassDef)]
    return {
        field.target.id: below.value.value
        for field, below in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }


def section_of(hint: Any) -> type | None:
    """Return the section that a key holds, alone, in a list, or where it is not null."""
    return next((part for part in (hint, *get_args(hint)) if isinstance(part, type) and is_dataclass(part)), None)


def type_words(hint: Any) -> str:
    """Return a type in words: ``int >= 1 or null``, ``list of string``, ``"native" | "vllm"``."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " ".join([type_words(parts[0]), *(bound for extra in parts[1:] for bound in bounds(extra))])
    if origin is Literal:
        return " | ".join(json.dumps(part) for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(map(type_words, parts))
    if origin is tuple:
        every = parts[-1] is Ellipsis
        return f"list of {type_words(parts[0])}" if every else f"[{', '.join(map(type_words, parts))}]"
    if isinstance(hint, type) and is_dataclass(hint):
        return "section"
    return {str: "string", NoneType: "null"}.get(hint) or ("mapping" if origin else hint.__name__)


def bounds(extra: Any) -> list[str]:
    """Return what one annotation of a type says of its bounds, or of further types: ``[">= 1"]``."""
    if isinstance(extra, str):
        return [extra]
    limits = getattr(extra, "metadata", ())
    return [f"{sign} {getattr(one, name)}" for one in limits for name, sign in BOUNDS.items() if hasattr(one, name)]


def default_of(one: Field[Any]) -> str:
    """Return a field's default as JSON, ``required`` where there is none, nothing for a section."""
    value = one.default if one.default_factory is MISSING else one.default_factory()
    if is_dataclass(value):
        return ""
    return REQUIRED if value is MISSING else json.dumps(value)
