"""Golds of programming problems: JSON, checked here before anything runs. Pure.

A gold is ``{"tests": [...]}``, with the name of the function that tests call as ``"function"``. ``"prefix"`` is code
put before the program in the same file, ``"setup"`` code executed after it, before an assertion's calls.

The keys of a test show its kind:

- ``{"stdin": text, "expected": text}``: what the program prints;
- ``{"arguments": [...], "expected": value}``: what the function returns;
- ``{"assert": "assert f(1) == (2, 3)"}``: an assertion that :mod:`archer.rewards.assertions` can split;
- ``{"check": code}``: code with a function ``check(candidate)``, for :mod:`archer.rewards.replay`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from archer.errors import DataError
from archer.rewards.assertions import split
from archer.rewards.checks import check_code
from archer.rewards.prelude import PRELUDE
from archer.types import Json

KEYS: dict[str, dict[str, type]] = {
    "stdin": {"expected": str, "stdin": str},
    "arguments": {"expected": object, "arguments": list},
    "assert": {"assert": str},
    "check": {"check": str},
}
TEXTS = {"function": "a name", "prefix": "code", "setup": "code"}


def kind_of(test: Mapping[str, Json], function: str | None) -> str:
    """Return the kind of a test: ``stdin``, ``arguments``, ``assert`` or ``check``."""
    for kind in ("assert", "check"):
        if kind in test:
            return kind
    return "arguments" if function else "stdin"


def kinds(gold: Json) -> Counter[str]:
    """Count the tests of a gold by kind; tables mark the problems that are checked by replay."""
    return Counter(kind_of(test, gold.get("function")) for test in gold["tests"])


def check_gold(gold: Json, prelude: str = PRELUDE) -> None:
    """Raise DataError for a malformed gold, naming the key that is missing or of the wrong type.

    Checks are looked at too, as code that runs after ``prelude`` (:mod:`archer.rewards.checks`).
    """
    if not isinstance(gold, Mapping) or not isinstance(gold.get("tests"), list) or not gold["tests"]:
        raise DataError(f"gold: expected {{'tests': [...]}} with a test, found {str(gold)[:80]}")
    for key, what in TEXTS.items():
        if gold.get(key) is not None and not (isinstance(gold[key], str) and gold[key]):
            raise DataError(f"gold: {key}: expected {what}, found {gold[key]!r}; leave it out if there is none")
    for index, test in enumerate(gold["tests"]):
        try:
            _check_test(test, gold.get("function"), prelude)
        except DataError as error:
            raise DataError(f"gold: tests[{index}]: {error}") from error


def _check_test(test: Any, function: str | None, prelude: str) -> None:
    if not isinstance(test, Mapping):
        raise DataError(f"expected an object, found {test!r}")
    kind = kind_of(test, function)
    for key, wanted in KEYS[kind].items():
        if key not in test:
            raise DataError(f"{key!r} is missing; its keys are {sorted(test)}")
        if not isinstance(test[key], wanted):
            raise DataError(f"{key}: expected a {wanted.__name__}, found {test[key]!r}")
    if kind in ("assert", "check") and not function:
        raise DataError(f"{kind!r} needs the gold's 'function', the name that it calls")
    if kind == "assert" and split(test["assert"], str(function)) is None:
        raise DataError(
            f"assert: {test['assert'][:200]!r} cannot be decided outside the sandbox by what {function} returns; "
            "make it a 'check'"
        )
    if kind == "check":
        check_code(test["check"], str(function), prelude)
