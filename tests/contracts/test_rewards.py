"""What every reward must do: a gold earns 1, an empty or cut response 0 with a reason, and nothing raises."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, is_dataclass

import pytest

from archer.recipe.sections import RewardSection
from archer.rewards import REWARDS, find_reward
from archer.rewards.base import ProgramReward, Response, Reward, runs_in
from archer.rewards.opening import open_grader
from archer.testing import RewardExample, check_reward
from archer.types import Json, Problem, Rollout, Stop, Verdict

GOLDS = {
    "math": (r"\frac{1}{2}", r"Half of it, so \boxed{\frac{1}{2}}."),
    "countdown": ({"numbers": [5, 6, 3], "target": 14}, r"\boxed{5+6+3}"),
    "code": (
        {"tests": [{"stdin": "3 4", "expected": "7"}]},
        "```python\nprint(sum(map(int, input().split())))\n```",
    ),
    "choice": ("B", "The answer is (B)."),
    "last_number": ("72", "Together they sold 48 + 24 = 72."),
    "exact": ("Paris", r"It is \boxed{Paris}."),
}  # fmt: skip
WRONG = {
    "math": r"\boxed{2}", "countdown": r"\boxed{5+6-3}", "code": "```python\nprint(8)\n```", "choice": "The answer is (C).",
    "last_number": "They sold 71.", "exact": r"\boxed{Rome}",
}  # fmt: skip
FORMS = ("format", "length", "judge")  # say nothing of a gold: tests/rewards/test_shipped.py, test_judge.py
HOSTILE = [
    "", " ", "\\boxed{", "\\boxed{}", "\\boxed{" * 2000, "}" * 2000, "```python", "```python\n```", "\x00", "\ud7ff",
    "\\boxed{\\frac{1}{0}}", "\\boxed{x}" * 500, "```python\nimport os\nos._exit(0)\n```", "\\boxed{9**9**9**9}",
]  # fmt: skip


def graded(name: str, text: str, stop: Stop = "end") -> Verdict:
    with ExitStack() as stack:
        grader = open_grader(RewardSection(workers=1, seconds=2.0), [name], True, stack)
        problem = Problem("p", "contracts", "", name, GOLDS[name][0])
        [verdict] = grader.grade([Rollout.of_text(problem, text, stop)])
    return verdict


def test_every_reward_has_a_gold_here() -> None:
    assert {*GOLDS, *FORMS} == set(REWARDS)


@pytest.mark.parametrize("name", GOLDS)
def test_a_reward_passes_the_suite(name: str) -> None:
    gold, right = GOLDS[name]
    check_reward(name, [RewardExample(gold, right, WRONG[name])], RewardSection(workers=1, seconds=2.0))


def test_a_form_and_a_sum_pass_the_suite() -> None:
    form: Json = {"name": "format", "pattern": "<answer>.*</answer>"}
    check_reward(form, [RewardExample(None, "<answer>3</answer>", "3")])
    check_reward(
        [{"name": "math"}, {**form, "weight": 0.1}], [RewardExample("3", "<answer>\\boxed{3}</answer>", "\\boxed{4}")]
    )


@dataclass(frozen=True)
class Faulty:
    """Says whether a response is the gold, with one fault."""

    fault: str = ""
    seen: list[str] = field(default_factory=list)

    def grade_batch(self, items: Sequence[Response]) -> list[Verdict]:
        self.seen.extend(item.text for item in items)
        return [self._one(item.problem.gold, item.text, number) for number, item in enumerate(items)]

    def _one(self, gold: str, text: str, number: int) -> Verdict:
        right = text == gold or (self.fault == "wrong" and text == "3")
        score = {"batch": float(right) / (number + 1), "again": float(right) / len(self.seen)}.get(self.fault, right)
        if self.fault == "hostile" and len(text) > 1000:
            score = 2.0
        return Verdict(float(score), right, "" if self.fault == "reason" else "right" if right else "wrong")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("wrong", "the wrong response '3' passes"),
        ("again", "graded again, the same responses get other verdicts"),
        ("batch", "graded alone, '4' gets"),
        ("hostile", "scores 2.0, a right response 1.0"),
        ("reason", "has no reason"),
    ],
)
def test_a_faulty_reward_is_found(fault: str, message: str) -> None:
    examples = [RewardExample("4", "4", "3"), RewardExample("5", "5", "4")]
    check_reward(Faulty(), examples)
    with pytest.raises(AssertionError, match=message):
        check_reward(Faulty(fault), examples)


@pytest.mark.parametrize("name", GOLDS)
def test_a_gold_earns_1(name: str) -> None:
    assert graded(name, GOLDS[name][1]).reason == "right"
    assert (graded(name, GOLDS[name][1]).score, graded(name, GOLDS[name][1]).passed) == (1.0, True)


@pytest.mark.parametrize("name", GOLDS)
def test_a_response_cut_before_its_answer_earns_0(name: str) -> None:
    verdict = graded(name, GOLDS[name][1][:8], "length")
    assert (verdict.score, verdict.passed, verdict.reason) == (0.0, False, "no_answer")


@pytest.mark.parametrize("name", GOLDS)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_answer_earns_0_and_raises_nothing(name: str, text: str) -> None:
    verdict = graded(name, text)
    assert (verdict.score, verdict.passed) == (0.0, False)
    assert verdict.reason not in ("", "right")


@pytest.mark.parametrize("name", REWARDS)
def test_rules_are_numbered(name: str) -> None:
    assert REWARDS[name].rules >= 1  # type: ignore[union-attr]


@pytest.mark.parametrize("name", REWARDS)
def test_where_a_reward_runs_and_what_it_offers(name: str) -> None:
    reward = REWARDS[name]
    assert runs_in(reward) == reward.runs_in  # type: ignore[union-attr]
    assert isinstance(reward, ProgramReward if runs_in(reward) == "sandbox" else Reward)
    assert is_dataclass(reward)
    assert reward == find_reward(name)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_form_is_no_error_on_any_text(text: str) -> None:
    form = '{"name":"format","pattern":"<answer>.*</answer>"}'
    for name in ("format", form, '{"name":"length","unit":"characters"}'):
        with ExitStack() as stack:
            grader = open_grader(RewardSection(workers=1, seconds=2.0), [name], True, stack)
            problem = Problem("p", "contracts", "", name, None)
            [verdict] = grader.grade([Rollout.of_text(problem, text)])
        assert 0.0 <= verdict.score <= 1.0
        assert verdict.reason
