"""Which of a problem's tests its statement shows: a program may answer those by looking them up. Pure.

Statements show examples as ``Input`` and ``Output`` on lines of their own (Codeforces, AtCoder, CodeContests), or
with the value behind a colon (LeetCode). A test is shown where such an input is word for word its own; for calls of
functions the arguments may be named (``nums = [1,2], k = 2``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from archer.rewards.code import same_output
from archer.types import Json

LABEL = re.compile(
    r"^\W*(?:(?:sample|example)s?\s*)?(?P<kind>input|output)s?(?:\s*#?\s*\d+)?[\s*_`]*(?::|-{2,}|$)[\s*_`]*(?P<rest>.*)$",
    re.IGNORECASE,
)
NAME = re.compile(r"(?:^|(?<=,))[A-Za-z_]\w*=(?!=)")


@dataclass(frozen=True)
class Example:
    """A pair that a statement shows, as its words stand there."""

    given: str
    expected: str


def examples(statement: str) -> list[Example]:
    """Return every text under ``Input`` that is followed by one under ``Output``; also those that describe formats."""
    parts = list[tuple[str, list[str]]]()
    for line in statement.splitlines():
        label = LABEL.match(line)
        if label:
            parts.append((label["kind"].lower(), [label["rest"]]))
        elif parts and line.strip().strip("`"):
            parts[-1][1].append(line)
    return [
        Example("\n".join(given), "\n".join(expected))
        for (kind, given), (next_kind, expected) in pairwise(parts)
        if (kind, next_kind) == ("input", "output")
    ]


def shown(gold: Mapping[str, Json], known: Sequence[Example]) -> list[int]:
    """Return the places of the tests whose input an example has."""
    return [place for place, test in enumerate(gold["tests"]) if any(_same_input(test, one) for one in known)]


def contradicted(gold: Mapping[str, Json], known: Sequence[Example]) -> bool:
    """Say whether a test expects other output than an example of its input: then several outputs may be right."""
    pairs = [(test, one) for test in gold["tests"] if "stdin" in test for one in known if _same_input(test, one)]
    for test, one in pairs:
        words = str(test["expected"]).split()
        told = one.expected.split()[: len(words)]  # words of explanation may follow
        if not same_output(" ".join(told), " ".join(words)):
            return True
    return False


def _same_input(test: Mapping[str, Json], one: Example) -> bool:
    if "stdin" in test:
        return str(test["stdin"]).split() == one.given.split()
    if "arguments" in test:
        given = NAME.sub("", "".join(one.given.split()))
        return given == ",".join(map(_written, test["arguments"]))
    return False


def _written(value: Json) -> str:
    return "".join(json.dumps(value, ensure_ascii=False).split())


def without(gold: Mapping[str, Json], places: Sequence[int]) -> dict[str, Json]:
    """Return a gold without these tests; it may have none left."""
    gone = set(places)
    return {**gold, "tests": [test for place, test in enumerate(gold["tests"]) if place not in gone]}
