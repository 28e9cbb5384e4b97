"""Find the tests that a problem's statement shows, because a program can pass those by looking them up. Pure.

Statements show examples as ``Input`` and ``Output`` on lines of their own (Codeforces, AtCoder, CodeContests), or with
the value after a colon (LeetCode). A test is shown if its input equals an example's word for word; in function calls
the arguments may be named (``nums = [1,2], k = 2``).
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
    """An input and its output as a statement shows them."""

    given: str
    expected: str


def examples(statement: str) -> list[Example]:
    """Return every text under ``Input`` with the one under ``Output`` after it, descriptions of formats included."""
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
    """Return the indices of the tests whose input is that of an example."""
    return [index for index, test in enumerate(gold["tests"]) if any(_same_input(test, example) for example in known)]


def contradicted(gold: Mapping[str, Json], known: Sequence[Example]) -> bool:
    """Return whether a test's output differs from that of the example with its input: several may be right then."""
    pairs = [
        (test, example) for test in gold["tests"] if "stdin" in test for example in known if _same_input(test, example)
    ]
    for test, example in pairs:
        words = str(test["expected"]).split()
        shown_words = example.expected.split()[: len(words)]  # words of explanation may follow
        if not same_output(" ".join(shown_words), " ".join(words)):
            return True
    return False


def _same_input(test: Mapping[str, Json], example: Example) -> bool:
    if "stdin" in test:
        return str(test["stdin"]).split() == example.given.split()
    if "arguments" in test:
        given = NAME.sub("", "".join(example.given.split()))
        return given == ",".join(map(_written, test["arguments"]))
    return False


def _written(value: Json) -> str:
    return "".join(json.dumps(value, ensure_ascii=False).split())


def without(gold: Mapping[str, Json], indices: Sequence[int]) -> dict[str, Json]:
    """Return a gold without the tests of these indices; no test may be left."""
    gone = set(indices)
    return {**gold, "tests": [test for index, test in enumerate(gold["tests"]) if index not in gone]}
