"""The small rewards: choice, last_number, exact, format, length."""

from __future__ import annotations

import time

import pytest

from archer.errors import DataError, GraderError, RecipeError
from archer.recipe.rewards import reward_spec
from archer.rewards import find_reward
from archer.rewards.base import Response, Reward
from archer.rewards.choice import ChoiceReward
from archer.rewards.exact import ExactReward
from archer.rewards.format import FormatReward
from archer.rewards.grading import Grader
from archer.rewards.last_number import LastNumberReward
from archer.rewards.length import LengthReward
from archer.types import Json, Problem, Rollout, Verdict


def judged(reward: Reward, gold: Json, text: str, tokens: int = 0) -> Verdict:
    [verdict] = reward.grade_batch([Response(Problem("p", "s", "", "r", gold), 0, text, "end", tokens)])
    return verdict


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (r"so \boxed{B}", "right"),
        (r"\boxed{\text{(B)}}", "right"),
        (r"\boxed{b}", "right"),
        (r"\boxed{B. Paris}", "right"),
        ("The answer is (B).", "right"),
        ("**Answer:** B", "right"),
        ("The answer is A. No, the answer is B", "right"),
        ("<think>the answer is A</think>The answer is B", "right"),
        (r"The answer is B, so \boxed{A}", "wrong"),
        (r"\boxed{C}", "wrong"),
        (r"\boxed{Because}", "unparsed"),
        (r"\boxed{}", "no_answer"),
        ("The answer is Because", "no_answer"),
        ("B", "no_answer"),
        (r"<think>\boxed{B}", "no_answer"),
        ("", "no_answer"),
    ],
)
def test_choice(text: str, reason: str) -> None:
    for gold in ("B", "(b)", 1):
        assert judged(ChoiceReward(), gold, text).reason == reason


def test_choice_refuses_a_gold_that_is_no_choice() -> None:
    for gold in ("Paris", "", 10, True, None, ["B"]):
        with pytest.raises(DataError, match="problem p: gold: expected one of the letters ABCDEFGHIJ"):
            judged(ChoiceReward(), gold, "")
    with pytest.raises(DataError, match="letters AB,"):
        judged(ChoiceReward(letters="AB"), "C", "")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It takes 72 hours.", "72"),
        ("10 and then 1,234.50 dollars", "1234.50"),
        ("x = -3", "-3"),
        ("10-3", "3"),
        ("a\u22124", "4"),
        ("it is \u22124", "-4"),
        ("costs $18.", "18"),
        ("7, 8, 9,", "9"),
        ("about .5", ".5"),
        ("#### 72 of 100", "72"),
        ("1 #### 2 #### 3.5\nand 4", "3.5"),
        ("<think>9</think>5", "5"),
        ("<think>9", ""),
        ("none", ""),
        ("#### none, 5 before", "5"),
        ("5 #### none", ""),
        ("1" * 101, ""),
    ],
)
def test_the_last_number(text: str, answer: str) -> None:
    assert judged(LastNumberReward(), "7", text).answer == answer


def test_last_number_is_compared_exactly() -> None:
    reward = LastNumberReward()
    assert judged(reward, "18 apples #### 1,234", "so 1234.0").reason == "right"
    assert judged(reward, 0.5, "so .50").reason == "right"
    assert judged(reward, "3", "so 3.0000001").reason == "wrong"
    assert judged(LastNumberReward(marked=True), "3", "so 3").reason == "no_answer"
    for gold in ("none", None, ["3"]):
        with pytest.raises(DataError, match="problem p: gold: expected a number"):
            judged(reward, gold, "3")


def test_exact() -> None:
    assert judged(ExactReward(), "New York", r"\boxed{new   york}").reason == "right"
    assert judged(ExactReward(ignore_case=False), "New York", r"\boxed{new york}").reason == "wrong"
    assert judged(ExactReward(), ["NYC", "New York"], r"\boxed{\text{nyc}}").reason == "right"
    assert judged(ExactReward(find="line"), "Paris", "I think\nParis \n\n").reason == "right"
    assert judged(ExactReward(find="all"), "Paris", "<think>x</think> Paris").reason == "right"
    assert judged(ExactReward(find="all"), "Paris", "It is Paris").reason == "wrong"
    for find in ("box", "line", "all"):
        assert judged(ExactReward(find=find), "Paris", "<think>Paris").reason == "no_answer"  # type: ignore[arg-type]
    with pytest.raises(DataError, match="problem p: gold: expected a text"):
        judged(ExactReward(), 5, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<think>a</think>b", "right"),
        (" \n<think>a</think>\nb", "right"),
        ("<think>a</think> ", "malformed"),
        ("<think>a", "malformed"),
        ("a</think>b", "malformed"),
        ("a", "malformed"),
        ("x<think>a</think>b", "malformed"),
        ("<think><think>a</think>b", "malformed"),
        ("<think>a</think>b</think>c", "malformed"),
        ("", "no_answer"),
    ],
)
def test_think_tags(text: str, reason: str) -> None:
    assert judged(FormatReward(), None, text).reason == reason


def test_format_by_an_expression() -> None:
    assert judged(FormatReward(opened=True), None, "a</think>b").reason == "right"
    assert judged(FormatReward("<answer>.*</answer>"), None, "x <answer>a\nb</answer> y").reason == "right"
    assert judged(FormatReward("<answer>.*</answer>", whole=True), None, "x <answer>a</answer>").reason == "malformed"
    with pytest.raises(RecipeError, match=r"pattern: '\(' is no regular expression"):
        FormatReward("(")


def test_an_expression_that_takes_for_ever_is_a_timeout() -> None:
    spec = reward_spec({"name": "format", "pattern": "(a+)+$", "whole": False})
    with Grader(1, 0.5) as grader:
        batch = [
            Rollout(Problem("p", "s", "", spec, None), number, (), (), (), (), text, "end")
            for number, text in enumerate(["a" * 50 + "b", "aaa"])
        ]
        assert [verdict.reason for verdict in grader.grade(batch)] == ["timeout", "right"]


def test_length() -> None:
    reward = LengthReward(target=10, limit=20, least=4)
    lengths = (0, 2, 4, 10, 15, 20, 30)
    verdicts = [judged(reward, None, "x" if length else "", length) for length in lengths]
    assert [verdict.score for verdict in verdicts] == [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    assert [verdict.reason for verdict in verdicts] == ["short", "short", "right", "right", "long", "long", "long"]
    overlong = LengthReward(target=10, limit=20, best=0.0, worst=-1.0)
    assert [judged(overlong, None, "x", length).score for length in (5, 12, 25)] == [0.0, pytest.approx(-0.2), -1.0]
    assert judged(LengthReward(target=1, limit=3, unit="characters"), None, "ab", 100).score == 0.5


def test_lengths_that_are_not_known_are_no_scores() -> None:
    with pytest.raises(GraderError, match="tokens are not known here; count with unit: characters"):
        judged(LengthReward(), None, "abc")
    with pytest.raises(RecipeError, match="least <= target < limit, found 0, 5 and 5"):
        find_reward(reward_spec({"name": "length", "target": 5, "limit": 5}))


@pytest.mark.parametrize("text", ["1," * 200_000, "answer is" * 100_000, r"\boxed{" * 100_000, "<think>" * 100_000])
def test_hostile_texts_take_time_in_proportion(text: str) -> None:
    begin = time.monotonic()
    for reward, gold in (
        (ChoiceReward(), "B"),
        (LastNumberReward(), "7"),
        (ExactReward(), "x"),
        (FormatReward(), None),
    ):
        assert not judged(reward, gold, text).passed
    assert time.monotonic() - begin < 3
