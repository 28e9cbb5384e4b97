"""The countdown reward: numbers in order, each once, exact value."""

from __future__ import annotations

import pytest

from archer.errors import DataError
from archer.rewards.countdown import CountdownReward
from archer.types import Json, Problem

GOLD = {"numbers": [3, 5, 2], "target": 13}


def reason(text: str, gold: Json = GOLD) -> str:
    return CountdownReward()(Problem("p", "s", "", "countdown", gold), text).reason


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("3+5*2", "right"),
        ("3 + (5 * 2)", "right"),
        (r"3+5\times 2", "right"),
        (r"$3+5\cdot2$", "right"),
        ("(3+5)*2", "wrong"),
        ("3+5-2", "wrong"),
        ("3/(5-5)", "wrong_numbers"),
        ("3+5*2+0", "wrong_numbers"),
        ("5*2+3", "wrong_numbers"),
        ("3+5+5", "wrong_numbers"),
        ("35-2", "wrong_numbers"),
        ("13", "wrong_numbers"),
        ("3+10", "wrong_numbers"),
        ("13=13", "unparsed"),
        ("3+5*2=13", "unparsed"),
        ("3**5-2", "unparsed"),
        ("3//5-2", "unparsed"),
        ("3 5 2", "unparsed"),
        ("3, 5, 2", "unparsed"),
        ("3(5)(2)", "unparsed"),
        ("3.0+5*2", "unparsed"),
        ("03+5*2", "unparsed"),
        ("__import__('os')", "unparsed"),
        ("", "unparsed"),
        ("3+5*2" + " " * 300 + "+0", "unparsed"),
        ("(" * 150 + "3", "unparsed"),
    ],
)
def test_reason(answer: str, expected: str) -> None:
    assert reason(rf"\boxed{{{answer}}}") == expected


def test_values_are_exact_fractions() -> None:
    gold = {"numbers": [1, 3, 3], "target": 1}
    assert reason(r"\boxed{1/3*3}", gold) == "right"
    assert reason(r"\boxed{1-3/3}", gold) == "wrong"
    assert reason(r"\boxed{1/(3-3)}", gold) == "wrong"


def test_signs_are_allowed() -> None:
    assert reason(r"\boxed{-3+5*2}", {"numbers": [3, 5, 2], "target": 7}) == "right"
    assert reason(r"\boxed{3-5-2}", {"numbers": [3, 5, 2], "target": -4}) == "right"


def test_last_box_counts_and_no_box_is_no_answer() -> None:
    assert reason(r"\boxed{3+5*2} or \boxed{3+5+2}") == "wrong"
    assert reason("3+5*2") == "no_answer"
    assert reason(r"<think>\boxed{3+5*2}") == "no_answer"


@pytest.mark.parametrize("gold", ["13", {"numbers": [13], "target": 13}, {"numbers": [1, True], "target": 2}, {}])
def test_malformed_gold_is_an_error(gold: Json) -> None:
    with pytest.raises(DataError, match="gold: expected"):
        reason(r"\boxed{13}", gold)
