"""The math reward: which answer counts, the exact path, math-verify behind it."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import pytest

from archer.errors import DataError, UserError
from archer.rewards import find_reward
from archer.rewards.math import MathReward, boxed, plain_equal, plain_number
from archer.rewards.mathematics.equality import Scale
from archer.rewards.mathematics.matching import Matcher
from archer.types import Json, Problem

MATH = MathReward()


def reason(gold: Json, text: str) -> str:
    return MATH(Problem("p", "s", "", "math", gold), text).reason


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{204}.", "204"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed {3}", "3"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{1 \right.}", r"\left\{1 \right."),
        (r"\boxed{a \\{b}}", r"a \\{b}"),
        (r"\\\boxed{5}", "5"),
        (r"{ \boxed{5\ } {", "5"),
        (r"\boxed{5} and then \boxed{12", "5"),
        (r"\boxed{5", None),
        ("the answer is 5", None),
        (r"<think>\boxed{1}</think> \boxed{2}", "2"),
        (r"\boxed{1}</think> \boxed{2}", "2"),
        (r"<think>\boxed{1}</think> two", None),
        (r"<think>\boxed{1}", None),
        (r"<think>a</think> \boxed{1} <think>", None),
        (r"a</think>b</think>\boxed{1}", "1"),
        ("", None),
    ],
)
def test_last_closed_box_after_the_thought_is_the_answer(text: str, answer: str | None) -> None:
    assert boxed(text) == answer


@pytest.mark.parametrize("unit", ["{", "}", "\\", r"\boxed{", r"\{", "<think>", r"\boxed   "])
def test_finding_the_box_is_linear_in_the_text(unit: str) -> None:
    assert boxed(unit * (1_000_000 // len(unit))) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", Fraction(5)),
        ("+5", Fraction(5)),
        ("- 5", Fraction(-5)),
        ("007", Fraction(7)),
        ("$1,234,567$", Fraction(1234567)),
        ("10{,}000", Fraction(10000)),
        (r"10,\!000", Fraction(10000)),
        ("1 000", Fraction(1000)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("-3/6", Fraction(-1, 2)),
        (r"-\frac{1}{2}", Fraction(-1, 2)),
        (r"\dfrac{-1}{2}", Fraction(-1, 2)),
        (r"-\frac{-1}{2}", Fraction(1, 2)),
        ("4.5e3", Fraction(4500)),
        ("1,22", None),
        ("1,2,3", None),
        ("1/0", None),
        ("1 1/2", None),
        ("204_7", None),
        ("5%", None),
        ("1e9999", None),
        ("٣", None),
        ("", None),
        ("1" * 2001, None),
    ],
)
def test_plain_numbers_are_read_exactly(text: str, number: Fraction | None) -> None:
    assert plain_number(text) == number


def test_plain_numbers_compare_without_rounding() -> None:
    assert plain_equal("0.1", r"\frac{1}{10}") is True
    assert plain_equal("0.00000001", "0.00000002") is False
    assert plain_equal("1/3", "0.333333") is None
    assert plain_equal("1/3", "2/6") is True


NUMBERS = ["5", "+5", "-5", "007", "7", "1,000", "1000", "2.5", "2.50", "1/2", r"\frac{1}{2}", "0.5", "-0.5"]
NUMBERS += [r"\dfrac{-1}{2}", "0", "-0", "12.0", "$12$", "1,234,567", "1234567", "0.1", r"\frac{10}{5}", "2"]


@pytest.mark.parametrize("gold", NUMBERS)
def test_fast_path_agrees_with_math_verify(gold: str) -> None:
    for answer in NUMBERS:
        assert plain_equal(gold, answer) == (Matcher(Scale()).algebra(gold.strip("$"), answer.strip("$")) == "right"), (
            answer
        )


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("073", "73", "right"),
        ("27.0", "27", "right"),
        ("204", "205", "wrong"),
        (r"\sqrt{51}", r"51^{1/2}", "right"),
        (r"\sqrt{51}", r"\sqrt{52}", "wrong"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)", "right"),
        ("p - q", "-q+p", "right"),
        ("x=5", "5", "right"),
        (r"\frac{1}{3}", "0.333333", "right"),
        ("4.5e33", r"4.5 \times 10^{33}", "right"),
        (r"4.5 \times 10^{33}", "4.5e33", "right"),
        (r"\text{east}", r"\text{west}", "wrong"),
        ("5", r"\frac{", "unparsed"),
        ("5", "\x00", "unparsed"),
        ("5", "", "unparsed"),
        ("5", "5+" * 1001 + "5", "unparsed"),
    ],
)
def test_math_verify_decides_the_rest(gold: str, answer: str, expected: str) -> None:
    assert MATH.judge(gold, answer).reason == expected


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        (["1", "2"], "1, 2", "right"),
        (["1", "2"], r"2 \text{ and } 1", "right"),
        (["1", "2"], r"\{2; 1\}", "right"),
        (["1", "2"], "x=1, x=2", "right"),
        (["1", "2"], "1", "wrong"),
        (["1", "2"], "1, 1", "wrong"),
        (["1", "2"], "1, 2, 3", "wrong"),
        (["(1,2)", "(3,4)"], "(3, 4), (1, 2)", "right"),
        (["-3", "3"], r"\pm 3", "right"),
        (["5"], "5", "right"),
    ],
)
def test_gold_list_asks_for_every_member(gold: list[str], answer: str, expected: str) -> None:
    assert MATH.judge(gold, answer).reason == expected


def test_verdict_is_priced_by_the_hyperparameters() -> None:
    verdict = MathReward(right=1.0, wrong=-1.0).judge("5", "6")
    assert (verdict.score, verdict.passed, verdict.answer) == (-1.0, False, "6")
    assert reason("5", "no box") == "no_answer"
    assert reason("5", r"\boxed{5}") == "right"


def test_plain_answers_need_no_worker() -> None:
    assert MATH.is_plain("5", "6")
    assert MATH.is_plain("5", None)
    assert MATH.is_plain("5", "9" * 3000)
    assert MATH.is_plain(r"\sqrt{2}", r"\sqrt{2}")
    assert MATH.is_plain(["1", "2"], "1, 3")
    assert not MATH.is_plain("5", "9^{9^9}")
    assert not MATH.is_plain(["1", "2"], "1, 9^{9^9}")


@pytest.mark.parametrize("gold", [5, None, "", [], ["1", 2]])
def test_malformed_gold_is_an_error(gold: Json) -> None:
    with pytest.raises(DataError, match="gold: expected"):
        MATH.judge(gold, "5")


def test_unknown_reward_suggests_a_known_one() -> None:
    with pytest.raises(UserError, match=r"'maths' \(did you mean 'math'\?\)"):
        find_reward("maths")


def test_plain_path_imports_no_sympy() -> None:
    script = (
        "import sys; from archer.rewards.math import MathReward; assert MathReward().judge('5', '5').passed;"
        "sys.exit('sympy' in sys.modules or 'math_verify' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
