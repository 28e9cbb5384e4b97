"""Options, sums and rewards of one's own: how they are written, found, graded and refused."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from archer.errors import GraderError, RecipeError, UserError
from archer.parts import given_parts
from archer.recipe.config import typed
from archer.recipe.rewards import counted_reward, first_reward, reward_entries, reward_spec, written_reward
from archer.recipe.sections import DataSource, RewardSection
from archer.rewards import find_reward, runs_programs
from archer.rewards.grading import Grader
from archer.rewards.math import MathReward
from archer.rewards.opening import open_grader
from archer.types import Json, Problem, Rollout, Verdict

MINE = '''
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from archer.types import Verdict


def brevity(problem, text, most=10):
    return len(text) <= most


def share(problem, text):
    return text.count(problem.gold) / 2


def broken(problem, text):
    raise KeyError(text)


def not_a_number(problem, text):
    return float("nan")


@dataclass(frozen=True)
class Process:
    """Says in which process it runs, and burns its time on what asks for it."""

    runs_in: ClassVar = "worker"
    rules: ClassVar[int] = 4
    bonus: float = 0.0
    shape: Literal["a", "b"] = "a"

    def grade_batch(self, items):
        assert len(items) == 1
        while items[0].text == "burn":
            pass
        return [Verdict(self.bonus, True, "right", str(os.getpid()))]


@dataclass(frozen=True)
class Rank:
    """Best of a group: 1 for the longest response."""

    group: ClassVar = True

    def grade_batch(self, items):
        longest = max(item.tokens for item in items)
        names = {item.problem.id for item in items}
        assert len(names) == 1
        return [Verdict(float(item.tokens == longest), item.tokens == longest, str(len(items))) for item in items]


@dataclass(frozen=True)
class Words:
    """A text reward."""

    rules: ClassVar[int] = 1

    def __call__(self, problem, text):
        return self.judge(problem.gold, text)

    def extract(self, text):
        return text

    def is_plain(self, gold, answer):
        return False

    def judge(self, gold, answer):
        return self.verdict("right" if gold == answer else "wrong", str(os.getpid()))

    def verdict(self, reason, answer=""):
        return Verdict(float(reason == "right"), reason == "right", reason, answer)


@dataclass(frozen=True)
class Process1:
    """Gives scores to tokens."""

    def grade_batch(self, items):
        return [Verdict(1.0, True, "right", token_scores=(0.5,) * item.tokens) for item in items]


class Short:
    def grade_batch(self, items):
        return []


class NoScore:
    def grade_batch(self, items):
        return [Verdict(None, False, "wrong")]


class Contrary:
    def grade_batch(self, items):
        return [Verdict(1.0, True, "wrong")]


class Arrays:
    """Scores as numpy makes them."""

    def grade_batch(self, items):
        score = np.float32(0.5)
        return [Verdict(score, score > 0.25, "half", token_scores=np.full(item.tokens, score)) for item in items]


class NoVerdict:
    def grade_batch(self, items):
        return [0.5]


made = Process(0.25)
nothing = 5
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return "./mine.py"


def rollout(spec: str, text: str, gold: Json = "5", sample: int = 0, id: str = "p") -> Rollout:
    tokens = tuple(range(len(text)))
    return Rollout(Problem(id, "lab", "", spec, gold), sample, (), tokens, (0.0,) * len(text), (), text, "end")


def graded(spec: str, texts: list[str], gold: Json = "5") -> list[Verdict]:
    with Grader(1, 1.0) as grader:
        return grader.grade([rollout(spec, text, gold, number) for number, text in enumerate(texts)])


# How they are written ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "spec"),
    [
        ("math", "math"),
        ({"name": "math"}, "math"),
        (["math"], "math"),
        ([{"name": "math", "weight": 1}], "math"),
        ({"name": "math", "find": ["box", "latex"]}, '{"find":["box","latex"],"name":"math"}'),
        (["math", {"name": "format", "weight": 0.5}], '[{"name":"math","weight":1.0},{"name":"format","weight":0.5}]'),
        ({"name": "math", "weight": 2}, '[{"name":"math","weight":2.0}]'),
        ({"name": "math", "as": "exam"}, '[{"as":"exam","name":"math","weight":1.0}]'),
    ],
)
def test_one_spelling_of_each_spec(written: Json, spec: str) -> None:
    assert reward_spec(written) == spec
    assert reward_spec(spec) == spec
    assert reward_spec(written_reward(spec)) == spec
    assert first_reward(spec) == "math"
    assert typed(DataSource, {"name": "x", "reward": written}, "r").reward == spec


def test_an_evaluation_counts_the_first_with_its_options() -> None:
    spec = reward_spec([{"name": "math", "weight": 3, "decimals": 2}, "format"])
    assert counted_reward(spec) == '{"decimals":2,"name":"math"}'
    assert counted_reward("math") == "math"
    assert [(one.label, one.weight) for one in reward_entries(spec)] == [("math", 3.0), ("format", 1.0)]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([], "expected at least one reward"),
        (5, "expected a reward's name"),
        ({"find": ["box"]}, "expected a reward's name"),
        ({"name": "math", "weight": "much"}, "math: weight: expected a number, found 'much'"),
        (["math", "math"], "two rewards are called 'math' in metrics"),
        ({"name": "math", "as": 3}, "math: as: expected a name"),
    ],
)
def test_what_is_no_reward_is_refused_when_it_is_read(written: Json, message: str) -> None:
    with pytest.raises(RecipeError, match=f"recipe.yaml: reward: .*{message}"):
        typed(DataSource, {"name": "x", "reward": written}, "recipe.yaml")


# Options -----------------------------------------------------------------------------------------------


def test_options_make_a_reward_once() -> None:
    spec = reward_spec({"name": "math", "find": ["box", "latex"], "decimals": 2})
    assert find_reward(spec) == MathReward(find=("box", "latex"), decimals=2)
    assert find_reward(spec) is find_reward(spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "math", "decimal": 2}, "reward: math: unknown key 'decimal' \\(did you mean 'decimals'"),
        ({"name": "math", "decimals": "two"}, "reward: math: .*integer"),
        ({"name": "exact", "find": "word"}, "'box', 'line' or 'all'"),
        ({"name": "mth"}, "rewards: no reward 'mth' \\(did you mean 'math'\\?\\); name one of your own as"),
        (["math", {"name": "fromat", "weight": 0.1}], "rewards: no reward 'fromat' \\(did you mean 'format'"),
    ],
)
def test_options_that_do_not_exist_are_refused(options: Json, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_reward(reward_spec(options))


def test_math_with_options_grades_by_them_in_workers_too() -> None:
    spec = reward_spec({"name": "math", "right": 2.0, "wrong": -1.0})
    verdicts = graded(spec, [r"\boxed{5}", r"\boxed{6}", r"\boxed{x+5-x}"])
    assert [verdict.score for verdict in verdicts] == [2.0, -1.0, 2.0]


# Sums --------------------------------------------------------------------------------------------------


def test_a_sum_weighs_scores_and_keeps_what_the_first_says() -> None:
    spec = reward_spec(["math", {"name": "format", "weight": 0.5}, {"name": "length", "weight": -0.25, "limit": 1025}])
    right, wrong = graded(spec, [r"<think>a</think>\boxed{5}", r"\boxed{6}"])
    assert (right.score, right.passed, right.reason, right.answer) == (1.25, True, "right", "5")
    assert right.parts == (("math", 1.0), ("format", 1.0), ("length", 1.0))
    assert (wrong.score, wrong.passed, wrong.reason) == (-0.25, False, "wrong")
    assert wrong.parts == (("math", 0.0), ("format", 0.0), ("length", 1.0))


def test_a_sum_with_programs_runs_them() -> None:
    spec = reward_spec(["code", {"name": "length", "weight": 0.1}])
    assert runs_programs(spec)
    assert not runs_programs(reward_spec(["math", "format"]))
    gold = {"tests": [{"stdin": "3 4", "expected": "7"}]}
    with ExitStack() as stack:
        grader = open_grader(RewardSection(workers=1, sandbox="process"), [spec], True, stack)
        program = "```python\nprint(sum(map(int, input().split())))\n```"
        batch = [rollout(spec, program, gold), rollout(spec, "nothing", gold, 1)]
        started = grader.begin()
        started.put(batch[0])
        assert [one.score for one in grader.grade(batch, started)] == [pytest.approx(1.1), pytest.approx(0.1)]
        assert sorted(grader.versions([spec])) == ["code", "length"]


def test_versions_hold_the_options_of_every_part() -> None:
    spec = reward_spec([{"name": "math", "decimals": 2}, "format"])
    with Grader(1, 5.0) as grader:
        versions = grader.versions([spec, "math"])
    assert sorted(versions) == ["format", "math", '{"decimals":2,"name":"math"}']
    assert versions["format"] == {"rules": 1}
    assert versions["math"]["rules"] == 3
    assert versions["math"]["seconds"] == 5.0


# One's own ---------------------------------------------------------------------------------------------


def test_a_function_is_a_reward(mine: str) -> None:
    assert [(v.score, v.passed, v.reason) for v in graded(f"{mine}:brevity", ["short", "x" * 11])] == [
        (1.0, True, "right"), (0.0, False, "wrong"),
    ]  # fmt: skip
    spec = reward_spec({"name": f"{mine}:brevity", "most": 20})
    assert [verdict.score for verdict in graded(spec, ["x" * 11])] == [1.0]
    assert [(v.score, v.passed, v.reason) for v in graded(f"{mine}:share", ["5", "55"])] == [
        (0.5, False, "partly"), (1.0, True, "right"),
    ]  # fmt: skip
    with pytest.raises(RecipeError, match=r"unknown option 'mots' \(did you mean 'most'"):
        find_reward(reward_spec({"name": f"{mine}:brevity", "mots": 20}))
    [verdict] = graded(reward_spec(["math", {"name": f"{mine}:brevity", "weight": 0.5}]), [r"\boxed{5}"])
    assert verdict.parts == (("math", 1.0), ("brevity", 1.0))


def test_a_class_is_made_with_its_options_and_found_again_in_the_worker(mine: str) -> None:
    spec = reward_spec({"name": f"{mine}:Process", "bonus": 0.5})
    burnt, fine = graded(spec, ["burn", "x"])
    assert (burnt.score, burnt.passed, burnt.reason) == (0.0, False, "timeout")
    assert fine.score == 0.5
    assert int(fine.answer) != os.getpid()
    assert [verdict.score for verdict in graded(f"{mine}:made", ["x"])] == [0.25]
    changed = reward_spec({"name": f"{mine}:made", "bonus": 0.75})
    assert [verdict.score for verdict in graded(changed, ["x"])] == [0.75]
    with pytest.raises(RecipeError, match=r"unknown option 'bonsu' \(did you mean 'bonus'"):
        find_reward(reward_spec({"name": f"{mine}:Process", "bonsu": 1}))
    with pytest.raises(RecipeError, match="shape: .*'a' or 'b'"):
        find_reward(reward_spec({"name": f"{mine}:Process", "shape": "c"}))


def test_a_text_reward_of_one_s_own_is_judged_in_a_worker(mine: str) -> None:
    right, wrong = graded(f"{mine}:Words", ["5", "6"])
    assert (right.reason, wrong.reason) == ("right", "wrong")
    assert int(right.answer) != os.getpid()


def test_its_source_is_part_of_what_verdicts_depend_on(mine: str) -> None:
    with Grader(1, 5.0) as grader:
        [version] = grader.versions([f"{mine}:Process"]).values()
    assert version["rules"] == 4
    assert version["seconds"] == 5.0
    assert len(version["sha256"]) == 64


def test_a_module_s_reward(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    Path("rewards_of_mine.py").write_text(MINE)
    assert [verdict.score for verdict in graded("rewards_of_mine:brevity", ["x"])] == [1.0]
    assert "rewards_of_mine" in sys.modules


def test_a_group_reward_gets_all_samples_of_a_problem_together(mine: str) -> None:
    spec = f"{mine}:Rank"
    batch = [rollout(spec, "x" * length, sample=n, id=id) for id in "ab" for n, length in enumerate((1, 3, 2))]
    with Grader(1, 5.0) as grader:
        verdicts = grader.grade(batch)
    assert [verdict.score for verdict in verdicts] == [0.0, 1.0, 0.0] * 2
    assert {verdict.reason for verdict in verdicts} == {"3"}


def test_scores_of_tokens_are_weighed_too(mine: str) -> None:
    spec = reward_spec(["math", {"name": f"{mine}:Process1", "weight": 2}])
    [verdict] = graded(spec, ["abc"])
    assert verdict.token_scores == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"problem p: reward '.*:broken' raised KeyError\('text'\) in .*mine.py, line [0-9]+ on 'text'"),
        ("not_a_number", "problem p: reward .* raised ValueError"),
        ("Short", "problem p: reward .*: 1 responses went in, 0 verdicts came back"),
        ("NoScore", "problem p: reward .*: a score is no finite number: Verdict"),
        ("Contrary", "problem p: reward .*: passed is True, which its reason 'wrong' denies"),
        ("NoVerdict", "problem p: reward .*: expected a Verdict, found 0.5"),
    ],
)
def test_a_fault_of_a_reward_is_an_error_and_never_a_score(mine: str, name: str, message: str) -> None:
    with pytest.raises(GraderError, match=message):
        graded(f"{mine}:{name}", ["text"])


def test_scores_of_numpy_become_plain_numbers_that_every_record_can_hold(mine: str) -> None:
    [verdict] = graded(f"{mine}:Arrays", ["ab"])
    assert verdict == Verdict(0.5, True, "half", token_scores=(0.5, 0.5))
    assert json.dumps(asdict(verdict))


def test_what_is_no_reward(mine: str) -> None:
    with pytest.raises(UserError, match="int is no reward: give it a method grade_batch"):
        find_reward(f"{mine}:nothing")
    with pytest.raises(UserError, match="no 'brevty'|did you mean 'brevity'"):
        find_reward(f"{mine}:brevty")


def test_an_object_is_not_given_under_a_shipped_name() -> None:
    with (
        given_parts({"rewards": {"math": MathReward()}}),
        pytest.raises(UserError, match="'math' is the name of a shipped one; give yours another name"),
    ):
        find_reward("math")
