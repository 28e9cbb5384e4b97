"""Every key of a recipe says what it means, and which values it takes."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from archer.recipe import sections
from archer.recipe.keys import RecipeKey, field_docstrings, recipe_keys, section_of, type_words
from archer.recipe.reading import read_recipe, recipe_yaml, shipped_recipes

SECTIONS = [
    kind for kind in vars(sections).values() if is_dataclass(kind) and kind.__module__ == sections.__name__
]  # fmt: skip
KEYS = {key.name: key for key in recipe_keys()}


def test_every_key_of_every_section_has_a_docstring() -> None:
    assert len(SECTIONS) == 15
    bare = [
        f"{kind.__name__}.{one.name}"
        for kind in SECTIONS
        for one in fields(kind)
        if not field_docstrings(kind).get(one.name) and "Section" not in str(one.type) and one.name != "data"
    ]
    assert bare == []
    # What holds a section is told by the section's own docstring, not by the signature that dataclasses put there.
    assert [kind.__name__ for kind in SECTIONS if (kind.__doc__ or "").startswith(f"{kind.__name__}(")] == []
    assert [key.name for key in KEYS.values() if not key.meaning.strip()] == []


def test_every_section_is_reached() -> None:
    assert len(KEYS) == sum(len(fields(kind)) for kind in SECTIONS)


@pytest.mark.parametrize(
    ("name", "kind", "default", "meaning"),
    [
        ("steps", "int >= 1", "required", "Training steps: sample, grade, update."),
        ("data", "list of section", "required", "Training problems: a lab task by ``name``, or rows of a ``path``."),
        ("data[].weight", "int", "1", "Problems of this source in each cycle over all sources."),
        ("rollout.vllm", "section", "", "Rollouts by vLLM: in a process beside each rank, or by servers."),
        ("rollout.vllm.memory", "float > 0 < 1", "0.4", "The share of a GPU that an engine beside a rank may take."),
        ("rollout.prefetch", "0 | 1", "0", "1 samples the next step while this one updates, with weights one step older."),
        ("update.lora", "section or null", "null", "A low-rank adapter in place of all weights (arXiv 2106.09685)."),
        ("update.betas", "[float, float]", "[0.9, 0.999]", "AdamW's decay of the first and second moments."),
        ("evaluate.samples", "int >= 1 or null", "null", "Samples of each problem; none: each benchmark's own K."),
        ("save.keep", "int >= 1", "1", "The newest that stay."),
    ],
)  # fmt: skip
def test_a_key_in_words(name: str, kind: str, default: str, meaning: str) -> None:
    assert KEYS[name] == RecipeKey(name, kind, default, meaning)


def test_a_meaning_of_two_lines_is_one_text() -> None:
    assert KEYS["model.context"].meaning.endswith("With rotary positions it may be longer than trained for.")


def test_types_in_words() -> None:
    assert type_words(bool) == "bool"
    assert type_words(dict[str, int]) == "mapping"
    assert type_words(Annotated[int, Field(ge=0, le=9)] | Literal["all"]) == 'int >= 0 <= 9 or "all"'
    assert section_of(tuple[sections.DataSource, ...]) is sections.DataSource
    assert section_of(str) is None


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_printed_recipe_reads_as_the_same_one(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    (path := tmp_path / "again.yaml").write_text(recipe_yaml(recipe))
    again = read_recipe(str(path))
    assert again == recipe
    assert again.digest() == recipe.digest()


def test_defaults_are_those_of_an_empty_section() -> None:
    lab = read_recipe("lab", ["save={}", "rollout.vllm={}"])
    assert lab.save.every == json.loads(KEYS["save.every"].default)
    assert lab.rollout.vllm.seconds == json.loads(KEYS["rollout.vllm.seconds"].default)


def test_a_part_s_key_takes_any_name_and_says_where_the_shipped_ones_are() -> None:
    assert (KEYS["log"].kind, KEYS["rollout.engine"].kind, KEYS["data[].format"].kind) == (
        "list of string",
        *["string"] * 2,
    )
    assert "archer.runs.trackers.TRACKERS" in KEYS["log"].meaning
    assert "archer.engines.ENGINES" in KEYS["rollout.engine"].meaning
    assert "archer.problems.formats.FORMATS" in KEYS["data[].format"].meaning
