"""Values exchanged with a guest: built-in types as tagged JSON, rebuilt here as exactly those types.

Lists, strings, numbers, booleans and None are as in JSON; ``{"tuple": [...]}``, ``{"set": [...]}``,
``{"frozenset": [...]}``, ``{"dict": [[key, value], ...]}``, ``{"complex": [re, im]}`` and ``{"bytes": hex}``
stand for the others. Reading a value never runs code that a program sent.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

# Numbers can be chosen to collide in a hash table, which then takes quadratic time.
MOST_KEYS = 4096  # keys other than text, and their parts, in all sets and dicts of a value together
# Two characters can become a hundred bytes of memory, so that a text is looked at before it is read.
MOST_PARTS = 500_000  # lists and other containers; those with a hash table count fourfold
MOST_ITEMS = 1_000_000  # what all containers hold; texts count twice
MOST_DEPTH = 200  # containers within each other; so comparing, copying and writing a value stay within Python's stack
TABLES = ("set", "frozenset", "dict")


def plain(value: Any) -> Any:
    """Return a value as tagged JSON. Raises TypeError for any other type."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [plain(item) for item in value]
    if kind in (tuple, set, frozenset):
        return {kind.__name__: [plain(item) for item in value]}
    if kind is dict:
        return {"dict": [[plain(key), plain(item)] for key, item in value.items()]}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    if kind is bytes:
        return {"bytes": value.hex()}
    raise TypeError(f"a {kind.__name__} is no plain value")


def read_value(text: bytes | memoryview) -> Any:
    """Return the value that a guest sent as JSON. Raises ValueError if it is malformed or abusively large."""
    told = str(text, "ascii")
    parts = _refuse_large(told)
    try:
        value = json.loads(told, object_hook=partial(_rebuilt, [0]))
    except (TypeError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None
    if parts > MOST_DEPTH and _is_deep(value):
        raise ValueError(f"a value nested more than {MOST_DEPTH} deep")
    return value


def _refuse_large(text: str) -> int:
    """Return the number of containers in a JSON text, as its brackets tell. Raises ValueError for too many parts."""
    parts = text.count("[") + text.count("{") + 3 * sum(text.count(f'"{kind}"') for kind in TABLES)
    if parts > MOST_PARTS:
        raise ValueError(f"a value of {parts} parts; {MOST_PARTS} are read at most")
    items = text.count(",") + text.count('"') // 2
    if items > MOST_ITEMS:
        raise ValueError(f"a value of {items} items; {MOST_ITEMS} are read at most")
    return parts


def _rebuilt(keys: list[int], tagged: dict[str, Any]) -> Any:
    """Return what a tagged object stands for, its parts being rebuilt already.

    ``keys`` holds one number, the count of keys so far that are not text.
    """
    [(kind, inner)] = tagged.items()
    if kind in ("tuple", *TABLES) and type(inner) is not list:
        raise ValueError(f"a {kind} of no list")
    if kind == "tuple":
        return tuple(inner)
    if kind == "complex":
        return complex(*inner)
    if kind == "bytes":
        return bytes.fromhex(inner)
    if kind not in TABLES:
        raise ValueError(f"a value of an unknown kind {kind!r}")
    if kind == "dict" and not all(type(pair) is list and len(pair) == 2 for pair in inner):
        raise ValueError("a dict of no pairs")
    own = [key for key, _ in inner] if kind == "dict" else inner
    keys[0] += sum(map(_size, own))
    if keys[0] > MOST_KEYS:
        raise ValueError(f"{keys[0]} keys that are not text; {MOST_KEYS} are read at most")
    return {"set": set, "frozenset": frozenset, "dict": dict}[kind](inner)


def _size(key: Any) -> int:
    """Return how many parts a comparison of this key may touch; text counts as none."""
    if type(key) is str:
        return 0
    return 1 + (sum(map(_size, key)) + len(key) if type(key) in (tuple, frozenset) else 0)


def _is_deep(value: Any) -> bool:
    """Return whether containers lie more than ``MOST_DEPTH`` deep within each other."""
    kinds, layer = (list, tuple, dict, set, frozenset), [value]
    for _ in range(MOST_DEPTH):
        inner = [(*part, *part.values()) if type(part) is dict else part for part in layer if type(part) in kinds]
        layer = [item for part in inner for item in part if type(item) in kinds]
        if not layer:
            return False
    return True
