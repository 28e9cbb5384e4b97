"""Verdicts on real data: every benchmark's golds, math-verify's own pairs, and our adversarial pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archer.rewards.math import MathReward, boxed, plain_equal
from archer.rewards.mathematics.equality import Scale
from archer.rewards.mathematics.matching import Matcher
from archer.types import Json, Problem

PAIRS = Path(__file__).parents[1] / "data" / "math_pairs.jsonl"


def reason(gold: Json, text: str) -> str:
    return MathReward()(Problem("p", "s", "", "math", gold), text).reason


def rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


# How each benchmark's gold and worked solution are read from its row, and the number of rows.
GOLDS: dict[str, tuple[int, Callable[[dict[str, Any]], list[str]], str]] = {
    "aime24.jsonl": (30, lambda row: [row["expected_answer"]], "reference_solution"),
    "aime25.jsonl": (30, lambda row: [row["expected_answer"]], "reference_solution"),
    "amc23.jsonl": (40, lambda row: [str(row["answer"])], ""),
    "gsm8k.jsonl": (1319, lambda row: [row["answer"].rpartition("####")[2]], ""),
    "math500.json": (500, lambda row: [row["answer"]], ""),
    "minerva.jsonl": (272, lambda row: [boxed(row["solution"]) or ""], "solution"),
    "minerva_with_answers.json": (272, lambda row: row["answer"], ""),
    "olympiadbench.jsonl": (675, lambda row: row["final_answer"], ""),
}
# Golds that the parser cannot read. They are right when given word for word, and in no other form.
UNREADABLE = {
    r"np.arcsin(10/13)",
    r"m_{p} c^{2}\left(\gamma^{2}-1\right) \sin ^{2} \theta",
    r"m_{p} c^{2}(\gamma^{2}-1) \sin ^{2} \theta",
    r"$f(x)=a x+b$, where $b$ is an arbitrary integer, and $a$ is an arbitrary positive integer with $\mho(a)=0$",
    r"$t(0,4]$",
}


@pytest.mark.parametrize("name", GOLDS)
def test_every_gold_is_right_in_a_box(data_file: Callable[[str], Path], name: str) -> None:
    count, golds, solution = GOLDS[name]
    table = rows(data_file(f"math/{name}"))
    assert len(table) == count
    given = [gold for row in table for gold in golds(row)]
    assert [gold for gold in given if reason(gold, rf"\boxed{{{gold}}}") != "right"] == []
    listed = [golds(row) for row in table if name == "olympiadbench.jsonl"]
    assert [gold for gold in listed if reason(gold, rf"\boxed{{{', '.join(gold)}}}") != "right"] == []
    worked = [(golds(row)[0], row[solution]) for row in table if solution and boxed(row[solution]) is not None]
    assert [gold for gold, text in worked if reason(gold, text) != "right"] == []
    print(f"{name}: {len(given)} golds and {len(worked)} worked solutions, all right")


@pytest.mark.parametrize("name", GOLDS)
def test_golds_are_read_and_not_only_found_identical(
    data_file: Callable[[str], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _count, golds, _solution = GOLDS[name]
    monkeypatch.setattr("archer.rewards.mathematics.matching.shortcut", plain_equal)
    given = {gold.strip() for row in rows(data_file(f"math/{name}")) for gold in golds(row)}
    failed = {gold for gold in given if Matcher(Scale()).reason(gold, rf"{gold}\,") != "right"}
    assert failed <= UNREADABLE


# Two pairs whose expectation contradicts our rules: one calls 1 + 1/e right for 1 - 1/e (math-verify's own test of
# the sign it loses), one lets the false equation 1/2 = 10/9 stand for 10/9.
CONTRADICT = {
    (r"$1 - \frac{1}{\mathrm{e}}$", r"$1 + \frac{1}{\mathrm{e}}$"),
    ("$10/9$", "Answer $ \\frac{1}{2} \\$ = \\frac{10}{9} $"),
}


def test_math_verify_s_own_pairs(data_file: Callable[[str], Path]) -> None:
    """The columns are settings of ours: what is looked for in a text without a box, decimals, names, sets."""
    pairs = rows(data_file("verdicts/math_verify_pairs.jsonl"))
    missed = set()
    for pair in pairs:
        judge = MathReward(
            find=("box", *(pair["match_types"] or ("latex", "expr"))),
            decimals=pair.get("precision", 6),
            same_names=pair.get("strict", True),
            relation_for_set=pair.get("allow_set_relation_comp", True),
            longest=20_000,
        )
        if judge(Problem("p", "s", "", "math", pair["gold"]), pair["pred"]).passed != pair["expected"]:
            missed.add((pair["gold"], pair["pred"]))
    print(f"{len(pairs) - len(missed)} of {len(pairs)}")
    assert len(pairs) == 269
    assert missed <= CONTRADICT


def test_adversarial_pairs() -> None:
    """``right`` is what a careful marker would say; known misses are named here (none at present)."""
    pairs = rows(PAIRS)
    missed = [
        pair for pair in pairs if (reason(pair["gold"], rf"\boxed{{{pair['answer']}}}") == "right") != pair["right"]
    ]
    print(f"{len(pairs) - len(missed)} of {len(pairs)}, {sum(pair['right'] for pair in pairs)} of them right answers")
    assert len(pairs) >= 600
    assert missed == []
