"""``archer recipe``: what it prints is a recipe, and every key is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from archer.__main__ import app
from archer.errors import RecipeError, UserError
from archer.recipe.reading import read_recipe


def invoke(*words: str) -> str:
    done = CliRunner().invoke(app, ["recipe", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_a_recipe_is_printed_with_its_defaults(tmp_path: Path) -> None:
    (path := tmp_path / "mine.yaml").write_text(text := invoke("lab-quick", "--set", "update.lr=0.5"))
    assert text.startswith("name: lab-quick\nsteps: 8\ndata:\n")
    assert "\n  lr: 0.5\n" in text
    assert "\n  max_grad_norm: 1.0\n" in text  # a default that the file does not name
    assert read_recipe(str(path)) == read_recipe("lab-quick", ["update.lr=0.5"])
    assert invoke().startswith("name: lab\n")


def test_keys_and_their_meaning_are_printed() -> None:
    told = invoke("--keys")
    assert "rollout.samples_per_prompt: int, default 16\n    Responses to each prompt: the group that " in told
    assert "name: string, required\n    What the run is called; its default folder is ``runs/NAME``.\n" in told
    assert "\nupdate: section\n    The optimizer's steps on a step's responses.\n" in told
    assert max(map(len, told.splitlines())) <= 100


def test_shipped_recipes_are_listed_with_their_first_comment() -> None:
    rows = dict(line.split(maxsplit=1) for line in invoke("--list").splitlines())
    assert len(rows) == 10
    assert rows["lab"].startswith("The default of `archer compare`: three algorithms on the embedded lab")
    assert rows["archer-math-1.5b-released"] == (
        "Archer-Math-1.5B as the released code trains it, where that differs from the paper."
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keys", "--list"], "--keys and --list print different things"),
        (["lab", "--keys"], "archer recipe --keys: it is about all recipes; leave out lab"),
        (["--list", "--set", "steps=3"], "archer recipe --list: it is about all recipes; leave out --set"),
    ],
)
def test_what_would_be_ignored_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        invoke(*words)


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(RecipeError, match="no shipped recipe 'labb'"):
        invoke("labb")
