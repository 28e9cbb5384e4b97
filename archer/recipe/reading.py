"""From a name or a file, and changes, to a checked recipe.

Unknown keys, wrong types and contradictory values raise :class:`~archer.errors.RecipeError`, which names the
file, the key, the value and the next step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from archer.errors import RecipeError, did_you_mean
from archer.recipe.aliases import new_key, new_value, upgrade
from archer.recipe.config import parse_change, put, read_yaml, typed
from archer.recipe.rewards import written_reward
from archer.recipe.sections import Recipe
from archer.types import Json


def read_recipe(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a shipped recipe by name or a YAML file by path; ``changes`` are ``key.key=value`` strings.

    Raises RecipeError when the file, a key or a value is not what it should be.
    """
    path = find_recipe(str(name))
    return made_recipe(upgrade(read_yaml(path), path.name), changes, path.name)


def changed_recipe(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """Return the recipe with ``changes`` made. Raises RecipeError."""
    return made_recipe(asdict(recipe), changes, recipe.name) if changes else recipe


def as_recipe(recipe: str | Path | Recipe, changes: Sequence[str] = ()) -> Recipe:
    """Return a recipe given by name, by file or as it is, with ``changes`` made. Raises RecipeError."""
    return changed_recipe(recipe, changes) if isinstance(recipe, Recipe) else read_recipe(recipe, changes)


def made_recipe(values: dict[str, Any], changes: Sequence[str], where: str) -> Recipe:
    """Return the checked recipe of plain values under today's keys, once ``changes`` are made."""
    for change in changes:
        key, value = parse_change(change)
        put(values, new_key(key), new_value(key, value, f"--set {change}"))
    recipe = typed(Recipe, values, where)
    check_recipe(recipe, where)
    return recipe


def recorded_recipe(manifest: Mapping[str, Json], where: str) -> Recipe:
    """Return the recipe that a run's manifest records. Raises RecipeError where it is none."""
    return typed(Recipe, upgrade(manifest["recipe"], where), where)


def find_recipe(name: str) -> Path:
    """Return the file of a shipped recipe, or of a path ending in .yaml."""
    shipped = shipped_recipes()
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise RecipeError(f"{name}: no such recipe file")
        return Path(name)
    if name not in shipped:
        raise RecipeError(f"no shipped recipe {name!r}{did_you_mean(name, shipped)}; a file's name ends in .yaml")
    return shipped[name]


def shipped_recipes() -> dict[str, Path]:
    """Return the files of the shipped recipes by name."""
    return {path.stem: path for path in sorted(Path(str(files("archer.recipe") / "shipped")).glob("*.yaml"))}


def recipe_yaml(recipe: Recipe) -> str:
    """Return a recipe as the YAML of a file that reads as the same recipe, every default in it."""
    plain = json.loads(json.dumps(asdict(recipe)))  # lists and mappings, which YAML writes without tags
    for source in plain["data"]:
        source["reward"] = written_reward(source["reward"])
    return yaml.safe_dump(plain, sort_keys=False)


def check_recipe(recipe: Recipe, where: str) -> None:
    """Refuse values that contradict each other. Raises RecipeError with all that do."""
    rollout, update = recipe.rollout, recipe.update
    faults = {
        "data: name at least one source": not recipe.data,
        "algorithms: name at least one": not recipe.algorithms,
        "algorithms: a name becomes a folder: not `base`, and no slash in it": any(
            name == "base" or "/" in name for name in recipe.algorithms
        ),
        f"rollout: samples_per_prompt {rollout.samples_per_prompt} gives no group-relative advantage; use 2 or more": (
            rollout.samples_per_prompt < 2
        ),
        f"rollout: temperature {rollout.temperature} makes all {rollout.samples_per_prompt} samples of a group the "
        "same; use a temperature above 0": rollout.temperature <= 0,
        f"rollout: top_p or top_k cut the distribution that log-probs are taken from; train with top_p 1.0 and "
        f"top_k 0 (found {rollout.top_p}, {rollout.top_k})": rollout.top_p != 1 or rollout.top_k != 0,
        f"update: mini_batch {update.mini_batch} is larger than the {rollout.prompts} prompts of a step; "
        "lower it or raise rollout.prompts": update.mini_batch > rollout.prompts,
    }
    found = [f"{where}: {fault}" for fault, wrong in faults.items() if wrong]
    if found:
        raise RecipeError("\n".join(found))
