"""How the reply of a model-based judge is read. None, never a guess, where it cannot be."""

from __future__ import annotations

import json
import math
import re
from typing import Literal

from archer.types import Json

_WORDS = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
_MARKUP = " \t\r\n*_`\"'.()[]"
_LONGEST = 20000  # characters of a reply that are looked at, from its end
_MOST_BRACES = 50  # from the end, at each of which an object may begin


def read_score(reply: str, parser: Literal["yes_no", "json", "regex"], key: str) -> float | None:
    """Return the score that a reply gives, None where it gives none. ``key`` is a key, or the expression of regex."""
    _, thought, said = reply.rpartition("</think>")
    if not thought and said.lstrip().startswith("<think>"):  # it never came to an answer
        return None
    reply = said[-_LONGEST:]
    if parser == "json":
        return _from_json(reply, key)
    if parser == "regex":
        found = list(re.compile(key).finditer(reply))
        return _number(found[-1].group(1)) if found else None
    return _yes_or_no(reply)


def _yes_or_no(reply: str) -> float | None:
    """Return what follows the last ``verdict:``, or the reply itself where it is the one word."""
    _, said, rest = reply.lower().rpartition("verdict:")
    line = rest.lstrip(_MARKUP).partition("\n")[0] if said else rest
    return {"yes": 1.0, "no": 0.0}.get(line.strip(_MARKUP))


def _from_json(reply: str, key: str) -> float | None:
    """Return the value of a key in the last object that has it."""
    end = len(reply)
    for _ in range(_MOST_BRACES):
        end = reply.rfind("{", 0, end)
        if end < 0:
            return None
        try:
            value, _ = json.JSONDecoder().raw_decode(reply, end)
        except (ValueError, RecursionError):
            continue
        if key in value:
            return _number(value[key])
    return None


def _number(value: Json) -> float | None:
    if isinstance(value, str):
        text = value.strip(_MARKUP).lower()
        if text in _WORDS:
            return _WORDS[text]
        value = text
    try:
        score = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return score if math.isfinite(score) else None
