"""What every reward must do: tell right from wrong, alone as in a batch, and raise nothing whatever a model writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from archer.parts import given_parts
from archer.recipe.rewards import reward_spec
from archer.recipe.sections import RewardSection
from archer.rewards import reward_parts
from archer.rewards.base import AnyReward, is_group
from archer.rewards.grading import Grader
from archer.rewards.opening import open_grader
from archer.types import Json, Problem, Rollout, Verdict

HOSTILE = (
    "", " ", "\\boxed{", "\\boxed{}", "\\boxed{" * 2000, "}" * 2000, "(" * 5000, "a" * 200_000, "```python",
    "```python\n```", "\x00", "\ud7ff", "\u202e", "\\boxed{\\frac{1}{0}}", "\\boxed{9**9**9**9}", "<think>" * 500,
    "<answer>" * 500, "nan", "inf", '{"score": 1e999}', "```python\nimport os\nos._exit(0)\n```",
)  # fmt: skip
OWN = "under-test"


@dataclass(frozen=True)
class RewardExample:
    """A gold with a response that is right and one that is wrong; ``prompt`` is what the model was asked."""

    gold: Json
    right: str
    wrong: str
    prompt: str = "made"


def check_reward(
    reward: str | Mapping[str, Json] | Sequence[Mapping[str, Json]] | AnyReward,
    examples: Sequence[RewardExample],
    section: RewardSection | None = None,
) -> None:
    """Grade made responses; raise AssertionError with a sentence for the first thing that does not hold.

    - a right response passes, a wrong one does not and scores less; each verdict has a reason and a finite score;
    - graded again, alone or beside others, a response gets the same verdict (a reward of groups: in the same group);
    - a response cut at its limit and hostile texts are graded too, and none of them scores more than a right one.

    ``reward`` is written as in a recipe (``math``, ``{name: ./mine.py:MINE, scale: 2}``), or is the object itself.
    ``section`` has the limits. Raises what the reward raises: OurError for what broke.
    """
    assert examples, "give at least one example of a right and a wrong response"
    with ExitStack() as stack:
        if isinstance(reward, str | Mapping | Sequence):
            spec = reward_spec(reward)
        else:
            spec = OWN
            stack.enter_context(given_parts({"rewards": {OWN: reward}}))
        grader = open_grader(section or RewardSection(workers=1), [spec], True, stack)
        for number, example in enumerate(examples):
            check_example(grader, Problem(f"made/{number}", "made", example.prompt, spec, example.gold), example)


def check_example(grader: Grader, problem: Problem, example: RewardExample) -> None:
    """Raise AssertionError where the verdicts on one gold do not hold."""
    texts = [*HOSTILE, example.right, example.wrong]
    rollouts = [Rollout.of_text(problem, text, sample=sample) for sample, text in enumerate(texts)]
    verdicts = grader.grade(rollouts)
    for text, verdict in zip(texts, verdicts, strict=True):
        check_verdict(text, verdict)
    *hostile, right, wrong = verdicts
    assert right.passed, f"the right response {example.right[:80]!r} does not pass: {right}"
    assert not wrong.passed, f"the wrong response {example.wrong[:80]!r} passes: {wrong}"
    assert wrong.score < right.score, f"the wrong response scores {wrong.score}, the right one {right.score}"
    for text, verdict in zip(HOSTILE, hostile, strict=True):
        assert verdict.score <= right.score, f"{text[:80]!r} scores {verdict.score}, a right response {right.score}"
    assert grader.grade(rollouts) == verdicts, "graded again, the same responses get other verdicts"
    cut = Rollout.of_text(problem, example.right[:1], "length")
    check_verdict(cut.text, *grader.grade([cut]))
    if not any(is_group(part.reward) for part in reward_parts(problem.reward)):
        for rollout, verdict in zip(rollouts[-2:], verdicts[-2:], strict=True):
            [alone] = grader.grade([rollout])
            assert alone == verdict, f"graded alone, {rollout.text[:80]!r} gets {alone} instead of {verdict}"


def check_verdict(text: str, verdict: Verdict) -> None:
    """Raise AssertionError for a verdict without a finite score or a reason."""
    assert math.isfinite(verdict.score), f"{text[:80]!r} scores {verdict.score}"
    assert verdict.reason, f"{text[:80]!r} has no reason: {verdict}"
