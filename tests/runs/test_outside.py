"""Which parts of a recipe are from outside, and what they are known by."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from archer.errors import RecipeError
from archer.recipe.reading import read_recipe
from archer.recipe.rewards import reward_spec
from archer.runs.outside import outside_parts


def test_every_outside_part_is_named_once_with_its_source_s_digest(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("REWARD = ENGINE = shape = 1\n")
    digest, mine = hashlib.sha256(b"REWARD = ENGINE = shape = 1\n").hexdigest(), f"{tmp_path}/mine.py"
    recipe = read_recipe("lab", [f"rollout.engine={mine}:ENGINE", f"log=['{mine}:Tracker']"])
    several = json.dumps([{"name": "math", "weight": 1.0}, {"name": f"{mine}:REWARD", "weight": 0.5}])
    first, second = recipe.data[:2]
    data = (replace(first, reward=several, format=f"{mine}:shape"), replace(second, reward=f"{mine}:REWARD"))
    assert outside_parts(replace(recipe, data=data)) == {
        f"engines: {mine}:ENGINE": digest, f"formats: {mine}:shape": digest, f"rewards: {mine}:REWARD": digest,
    }  # fmt: skip


def test_a_judge_s_prompt_is_part_of_what_a_run_is(tmp_path: Path) -> None:
    recipe = read_recipe("lab")
    judge = {"name": "judge", "prompt": str(tmp_path / "prompt.txt")}
    recipe = replace(recipe, data=(replace(recipe.data[0], reward=reward_spec(["math", judge])),))
    with pytest.raises(RecipeError, match=r"reward: judge: prompt: .*prompt.txt: .*No such file"):
        outside_parts(recipe)
    (tmp_path / "prompt.txt").write_bytes(b"{response}")
    assert outside_parts(recipe) == {f"rewards: {tmp_path}/prompt.txt": hashlib.sha256(b"{response}").hexdigest()}


@pytest.mark.parametrize("name", ["lab", "archer-math-1.5b", "archer-code-1.5b-released"])
def test_shipped_recipes_have_none(name: str) -> None:
    recipe = read_recipe(name)
    assert outside_parts(recipe, recipe.algorithms) == {}
