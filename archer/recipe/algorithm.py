"""From a name in a recipe to the algorithm: a shipped one, with the recipe's changes made."""

from __future__ import annotations

from archer.algorithms import ALGORITHMS, Algorithm
from archer.errors import RecipeError, did_you_mean
from archer.recipe.config import merged
from archer.recipe.sections import Recipe


def build_algorithm(recipe: Recipe, name: str) -> Algorithm:
    """Return algorithm ``name`` with the recipe's changes made.

    Raises RecipeError for an unknown algorithm, field or value.
    """
    where = f"{recipe.name}: algorithms: {name}"
    changes = dict(recipe.algorithms.get(name) or {})
    base = changes.pop("base", name)
    if base not in ALGORITHMS:
        raise RecipeError(f"{where}: no algorithm {base!r}{did_you_mean(str(base), ALGORITHMS)}")
    return merged(ALGORITHMS[base], changes, where)
