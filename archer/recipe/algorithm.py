"""From a name in a recipe to the algorithm: a shipped one or one's own, with the recipe's changes made."""

from __future__ import annotations

from dataclasses import fields

from archer.algorithms import ALGORITHMS, Algorithm
from archer.algorithms.needs import check_needs
from archer.errors import RecipeError, UserError, did_you_mean
from archer.parts import find_part, is_outside
from archer.recipe.config import merged
from archer.recipe.sections import Recipe

KEYS = ("base", *(one.name for one in fields(Algorithm)))


def build_algorithm(recipe: Recipe, name: str) -> Algorithm:
    """Return algorithm ``name`` with the recipe's changes made; ``base`` may be ``module:NAME`` or ``./file.py:NAME``.

    Raises RecipeError for an unknown algorithm, field or value, and for one that needs what nothing supplies.
    """
    where = f"{recipe.name}: algorithms: {name}"
    if is_outside(name):  # the name becomes a folder
        raise RecipeError(f"{where}: give it a name in the recipe, as in --set 'algorithms.mine={{base: {name}}}'")
    changes = dict(recipe.algorithms.get(name) or {})
    for key in changes:
        if key not in KEYS:
            raise RecipeError(f"{where}: unknown key {key!r}{did_you_mean(key, KEYS)}")
    base = str(changes.pop("base", name))
    try:
        row = find_part("algorithms", base, ALGORITHMS)
        if not isinstance(row, Algorithm):
            raise UserError(f"base: {base}: expected an archer.algorithms.Algorithm, found {row!r}")
        made = merged(row, changes, where)
        check_needs(made)
    except RecipeError:
        raise
    except UserError as error:
        raise RecipeError(f"{where}: {error}") from error
    return made
