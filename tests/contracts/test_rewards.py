"""What every reward must do: a gold earns 1, an empty or cut response 0 with a reason, and nothing raises."""

from __future__ import annotations

import pytest

from archer.recipe.sections import RewardSection
from archer.rewards import REWARDS
from archer.rewards.opening import open_grader
from archer.types import Problem, Rollout, Stop, Verdict

GOLDS = {
    "math": (r"\frac{1}{2}", r"Half of it, so \boxed{\frac{1}{2}}."),
    "countdown": ({"numbers": [5, 6, 3], "target": 14}, r"\boxed{5+6+3}"),
    "code": (
        {"tests": [{"stdin": "3 4", "expected": "7"}]},
        "```python\nprint(sum(map(int, input().split())))\n```",
    ),
}  # fmt: skip
HOSTILE = [
    "", " ", "\\boxed{", "\\boxed{}", "\\boxed{" * 2000, "}" * 2000, "```python", "```python\n```", "\x00", "\ud7ff",
    "\\boxed{\\frac{1}{0}}", "\\boxed{x}" * 500, "```python\nimport os\nos._exit(0)\n```", "\\boxed{9**9**9**9}",
]  # fmt: skip


def graded(name: str, text: str, stop: Stop = "end") -> Verdict:
    from contextlib import ExitStack

    with ExitStack() as stack:
        grader = open_grader(RewardSection(workers=1, seconds=2.0), [name], True, stack)
        problem = Problem("p", "contracts", "", name, GOLDS[name][0])
        [verdict] = grader.grade([Rollout.of_text(problem, text, stop)])
    return verdict


def test_every_reward_has_a_gold_here() -> None:
    assert set(GOLDS) == set(REWARDS)


@pytest.mark.parametrize("name", REWARDS)
def test_a_gold_earns_1(name: str) -> None:
    assert graded(name, GOLDS[name][1]).reason == "right"
    assert (graded(name, GOLDS[name][1]).score, graded(name, GOLDS[name][1]).passed) == (1.0, True)


@pytest.mark.parametrize("name", REWARDS)
def test_a_response_cut_before_its_answer_earns_0(name: str) -> None:
    verdict = graded(name, GOLDS[name][1][:8], "length")
    assert (verdict.score, verdict.passed, verdict.reason) == (0.0, False, "no_answer")


@pytest.mark.parametrize("name", REWARDS)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_answer_earns_0_and_raises_nothing(name: str, text: str) -> None:
    verdict = graded(name, text)
    assert (verdict.score, verdict.passed) == (0.0, False)
    assert verdict.reason not in ("", "right")


@pytest.mark.parametrize("name", REWARDS)
def test_rules_are_numbered(name: str) -> None:
    assert REWARDS[name].rules >= 1
