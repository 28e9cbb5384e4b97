"""Values exchanged with a guest: built-in types as tagged JSON, rebuilt here as exactly those types.

Lists, strings, numbers, booleans and None are as in JSON; ``{"tuple": [...]}``, ``{"set": [...]}``,
``{"frozenset": [...]}``, ``{"dict": [[key, value], ...]}``, ``{"complex": [re, im]}`` and ``{"bytes": hex}``
stand for the others. Reading a value never runs code that a program sent.
"""

from __future__ import annotations

import json
from typing import Any

# Numbers can be chosen to collide in a hash table, which then takes quadratic time.
MOST_KEYS = 4096  # keys other than text, and their parts, in all sets and dicts of a value together
MOST_PARTS = 500_000  # lists and other containers, each many times as large in memory as its two characters


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


def read_value(text: bytes) -> Any:
    """Return the value that a guest sent as JSON. Raises ValueError if it is malformed or abusively large."""
    parts = text.count(b"[") + text.count(b"{")
    if parts > MOST_PARTS:
        raise ValueError(f"a value of {parts} parts; {MOST_PARTS} are read at most")
    try:
        return _rebuilt(json.loads(text), [0])
    except (TypeError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _rebuilt(value: Any, keys: list[int]) -> Any:
    """Rebuild a value; ``keys`` holds one number, the count of keys so far that are not text."""
    if isinstance(value, list):
        return [_rebuilt(item, keys) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, inner)] = value.items()
    if kind == "tuple":
        return tuple(_rebuilt(inner, keys))
    if kind == "complex":
        return complex(*inner)
    if kind == "bytes":
        return bytes.fromhex(inner)
    if kind not in ("set", "frozenset", "dict"):
        raise ValueError(f"a value of an unknown kind {kind!r}")
    items = _rebuilt(inner, keys)
    own = [key for key, _ in items] if kind == "dict" else items
    keys[0] += sum(map(_size, own))
    if keys[0] > MOST_KEYS:
        raise ValueError(f"{keys[0]} keys that are not text; {MOST_KEYS} are read at most")
    return {"set": set, "frozenset": frozenset, "dict": dict}[kind](items)


def _size(key: Any) -> int:
    """Return how many parts a comparison of this key may touch; text counts as none."""
    if type(key) is str:
        return 0
    return 1 + (sum(map(_size, key)) + len(key) if type(key) in (tuple, frozenset) else 0)
