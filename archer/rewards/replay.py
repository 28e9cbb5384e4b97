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

HARNESS = '''
import random as _random


class _Asked(BaseException):
    """A call of the candidate to which there is no reply yet."""


def _replay(function, replies):
    rest, used = iter(replies), []

    def candidate(*arguments, **named):
        for reply in rest:
            used.append(reply)
            return reply
        raise _Asked(list(arguments), named)

    globals()[function] = candidate  # some checks call it by its name
    _random.seed(0)
    try:
        check(candidate)
    except _Asked as asked:
        return ["need", *asked.args]
    except (NameError, ImportError) as error:
        if isinstance(error, UnboundLocalError) or "free variable" in str(error):
            return ["failed"]  # a loop over a reply that held nothing, say
        return ["broken", repr(error)]
    except Exception:
        if not used:
            raise
        return ["failed"]
    return ["passed"]
'''


def replay(check: str, function: str, setup: str, prelude: str) -> Script:
    """Run one check as a script; return ``right``, ``wrong`` or the status of the program's failing run.

    Raises :class:`~archer.errors.DataError` for a check that fails by itself, SandboxError if its sandbox
    does not let it finish. Neither is the program's fault.
    """
    harness, replies = f"{prelude}\n{check}\n{HARNESS}", list[Any]()
    while len(replies) <= MOST_CALLS:
        run = yield Trusted(harness, "_replay", (function, list(replies)))
        if replies and run.status != "ok":
            return run.status  # the check ran before this reply, so the reply is at fault
        match _concluded(run):
            case ["passed"]:
                return "right"
            case ["failed"]:
                return "wrong"
            case ["broken", reason]:
                raise DataError(f"check: it failed by itself: {reason}; mend the data set's code")
            case ["need", list(arguments), dict(named)]:
                run = yield _question(function, arguments, named, setup)
            case other:
                raise SandboxError(f"a check's harness returned {other!r}")
        if run.status != "ok":
            return run.status
        if not _is_modest(run.value):
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
    if type(value) is dict:
        return "{" + ", ".join(f"{_written(key)}: {_written(item)}" for key, item in value.items()) + "}"
    if type(value) in (list, tuple, set, frozenset) and value:
        return f"{type(value).__name__}([{', '.join(map(_written, value))}])"
    return plainly


def _is_modest(value: Any) -> bool:
    """Return whether a reply is no larger than an honest answer may be."""
    parts, layer = 0, [value]
    for _ in range(MOST_DEPTH):
        parts += sum(len(part) if isinstance(part, str | bytes) else 1 for part in layer)
        if parts > MOST_PARTS or any(isinstance(part, int) and part.bit_length() > MOST_BITS for part in layer):
            return False
        inner = [list(part.items()) if isinstance(part, dict) else part for part in layer]
        layer = [item for part in inner if isinstance(part, list | tuple | set | frozenset) for item in part]
        if not layer:
            return True
    return False
