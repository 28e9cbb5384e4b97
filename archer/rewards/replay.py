"""Runs checks that cannot be split into assertions: loops, random arguments, helper functions.

The check, a data set's code, runs in a sandbox that no program enters; the program runs in another. The check
restarts with every reply: it is given the replies so far, and stops at the first call that none of them answers,
which the program then evaluates. So checks must be deterministic (the harness seeds ``random``), may not rely on
what the program does to its arguments, and should call rarely: their time is quadratic in the number of calls.
"""

from __future__ import annotations

import math
from typing import Any

from archer.errors import DataError, SandboxError
from archer.sandbox.base import Call, Expression, ProgramRun, Script, Trusted

MOST_CALLS = 2000
MOST_PARTS, MOST_DEPTH, MOST_BITS = 10_000, 50, 4096  # of a reply, which is sent again with every later one
MOST_ALL = 200_000  # parts of all replies of a check

HARNESS = '''
import random as _random


class _Asked(BaseException):
    """A call of the candidate to which there is no reply yet."""


def _replay(function, replies):
    rest, used, asked = iter(replies), [], []

    def candidate(*arguments, **named):
        for reply in rest:
            used.append(reply)
            return reply
        asked.append([list(arguments), named])
        raise _Asked

    globals()[function] = candidate  # some checks call it by its name
    _random.seed(0)
    try:
        check(candidate)
        told = ["passed"]
    except BaseException:
        if not used and not asked:
            raise
        told = ["failed"]
    return ["need", *asked[0]] if asked else told  # also where the check caught what stopped it
'''


def replay(check: str, function: str, setup: str, prelude: str) -> Script:
    """Run one check as a script; return ``right``, ``wrong`` or the status of the program's failing run.

    Raises :class:`~archer.errors.DataError` for a check that fails before it has a reply, SandboxError if its
    sandbox does not let it finish that far. Neither is the program's fault; all that comes of a reply is.
    """
    harness, replies, parts = f"{prelude}\n{check}\n{HARNESS}", list[Any](), 0
    while len(replies) <= MOST_CALLS:
        run = yield Trusted(harness, "_replay", (function, list(replies)))
        if replies and run.status != "ok":
            return run.status  # the check ran before this reply, so the reply is at fault
        match _concluded(run):
            case ["passed"] if not replies:
                raise DataError("check: it passes without asking the program; mend the data set's code")
            case ["passed"]:
                return "right"
            case ["failed"]:
                return "wrong"
            case ["need", list(arguments), dict(named)]:
                run = yield _question(function, arguments, named, setup)
            case other:
                raise SandboxError(f"a check's harness returned {other!r}")
        if run.status != "ok":
            return run.status
        size = _size(run.value)
        parts += size or 0
        if size is None or parts > MOST_ALL:
            return "output"
        replies.append(run.value)
    return "wrong"  # the replies keep the check from ending


def _concluded(run: ProgramRun) -> Any:
    if run.status == "error":
        raise DataError(f"check: it failed by itself: {run.detail}; mend the data set's code")
    if run.status != "ok":
        raise SandboxError(f"a check's run ended with {run.status}: {run.detail}; the program is not to blame")
    return run.value


def _question(function: str, arguments: list[Any], named: dict[str, Any], setup: str) -> Call | Expression:
    if not named and not setup:
        return Call(function, tuple(arguments))
    return Expression(f"{function}(*{_written(arguments)}, **{_written(named)})", setup)


def _written(value: Any) -> str:
    """Return a plain value as an expression: its ``repr``, with inf and nan (names there) as ``float(...)``."""
    plainly = repr(value)
    if "inf" not in plainly and "nan" not in plainly:
        return plainly
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if isinstance(value, complex):
        return f"complex({_written(value.real)}, {_written(value.imag)})"
    if type(value) is dict:
        return "{" + ", ".join(f"{_written(key)}: {_written(item)}" for key, item in value.items()) + "}"
    if type(value) in (list, tuple, set, frozenset) and value:
        return f"{type(value).__name__}([{', '.join(map(_written, value))}])"
    return plainly


def _size(value: Any) -> int | None:
    """Return how many parts a reply has; None if it is larger than an honest answer may be."""
    parts, layer = 0, [value]
    for _ in range(MOST_DEPTH):
        parts += sum(len(part) if isinstance(part, str | bytes) else 1 for part in layer)
        if parts > MOST_PARTS or any(isinstance(part, int) and part.bit_length() > MOST_BITS for part in layer):
            return None
        inner = [list(part.items()) if isinstance(part, dict) else part for part in layer]
        layer = [item for part in inner if isinstance(part, list | tuple | set | frozenset) for item in part]
        if not layer:
            return parts
    return None
