"""From a name in a recipe to the algorithm: a shipped one or one's own, with the recipe's changes made."""

from __future__ import annotations

from archer.algorithms import ALGORITHMS, Algorithm
from archer.errors import RecipeError, UserError
from archer.parts import find_part, is_outside
from archer.recipe.config import merged
from archer.recipe.sections import Recipe


def build_algorithm(recipe: Recipe, name: str) -> Algorithm:
    """Return algorithm ``name`` with the recipe's changes made.

    Raises RecipeError for an unknown algorithm, field or value.
    """
    where = f"{recipe.name}: algorithms: {name}"
    if is_outside(name):  # the name becomes a folder
        raise RecipeError(f"{where}: give it a name in the recipe, as in --set 'algorithms.mine={{base: {name}}}'")
    changes = dict(recipe.algorithms.get(name) or {})
    base = changes.pop("base", name)
    try:
        row = find_part("algorithms", str(base), ALGORITHMS)
    except UserError as error:
        raise RecipeError(f"{where}: {error}") from error
    if not isinstance(row, Algorithm):
        raise RecipeError(f"{where}: base: {base}: expected an archer.algorithms.Algorithm, found {row!r}")
    return merged(row, changes, where)
