"""Nothing that meets a response in this process takes longer than in proportion to its length, whatever its text."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from attack_strings import attacks, fragments
from expressions import ELSEWHERE, expressions
from patterns import ANSWERS, FRAMES, MEGABYTE, RESPONSES, REWARD, WORDS, Call, slowest

import archer

# What these read is no response: recipes, data sets, their golds, published tables, an engine's replies and metrics.
OTHERS = {
    "distributed.py", "engines/vllm/checks.py", "engines/vllm/control.py", "evaluation/benchmark.py",
    "evaluation/named_metrics.py", "evaluation/pinning.py", "leaderboards/published.py", "leaderboards/summary.py",
    "problems/formats/leetcode.py", "problems/formats/mathematics.py", "problems/formats/olympiadbench.py",
    "problems/formats/released.py", "problems/formats/statements.py", "problems/json_stream.py",
    "problems/lab/countdown.py", "tools/data/examples.py", "tools/data/mathematics.py", "tools/overlap.py",
}  # fmt: skip


def test_every_regular_expression_of_the_rewards_is_linear() -> None:
    """At 1 MB of the slowest text that can be made of each; one that is not linear is seen at a few thousand characters."""
    found = {one.name: slowest(one.act, attacks(one.pattern), MEGABYTE) for one in expressions()}
    worst = max(found, key=lambda name: found[name].seconds)
    print(f"{len(found)} expressions; slowest: {worst}, {found[worst]}")
    assert len(found) > 100
    assert {name: slow for name, slow in found.items() if slow.size < MEGABYTE} == {}


@pytest.mark.parametrize("act", RESPONSES.values(), ids=list(RESPONSES))
def test_what_looks_through_a_response_is_linear(act: Call) -> None:
    found = slowest(act, fragments(WORDS, FRAMES), MEGABYTE)
    assert found.size == MEGABYTE, found


@pytest.mark.parametrize("act", ANSWERS.values(), ids=list(ANSWERS))
def test_an_answer_of_the_greatest_length_is_read_at_once(act: Call) -> None:
    act("7, 8")  # imports what the first list waits for
    found = slowest(act, fragments((*WORDS, "\u0301", "\u0323"), FRAMES), REWARD.longest)
    assert found.size == REWARD.longest, found
    assert found.seconds < 0.5


@pytest.mark.parametrize(
    "pattern",
    [
        r"^([ \t]*)(`{3,})[ \t]*([^`]*?)[ \t]*$",
        r"^\\text\{(?=[^{}]*\}$)\s*\(?([^{}]*[0-9][^{}a-zA-Z]*?)\)?\s*\}$",
        r"\s*%\s*$",
        r"(?<=[0-9])\s*\^\s*\{?\s*\\prime$",
        r"\{([^{}]*)\\choose(?![a-z])([^{}]*)\}",
        r"(?<![0-9.])([0-9]+\.?[0-9]*|\.[0-9]+)[eE]",
        r",[a-z](?:,[a-z])*\\in",
        r"\\text\{(?:where|for all)\}[^=]*$",
        r"(?:[a-z]+-?)+$",
    ],
)
def test_expressions_that_are_not_linear_are_found(pattern: str) -> None:
    expression = re.compile(pattern)
    found = slowest(lambda text: [*expression.finditer(text)], attacks(expression), MEGABYTE)
    assert found.size < MEGABYTE, found


def test_possessive_repetitions_are_of_single_characters() -> None:
    """Python before 3.11.5 matches those of groups wrongly."""
    group = re.compile(r"(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+")
    assert [one.name for one in expressions() if group.search(one.pattern.pattern)] == []
    assert group.search(r"(?:ab?c)*+")


def test_expressions_elsewhere_meet_no_response() -> None:
    """A module that begins to use regular expressions is put into the list, or measured."""
    package = Path(archer.__file__).parent
    users = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import) and any(alias.name in ("re", "regex") for alias in node.names)
    }
    measured = {f"{name.removeprefix('archer.')}.py" for name in ELSEWHERE}
    assert {user for user in users if not user.startswith("rewards/")} - measured == OTHERS
