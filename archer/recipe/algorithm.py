"""From a name in a recipe to the algorithm: a shipped one or one from anywhere, with the recipe's changes made."""

from __future__ import annotations

from archer.algorithms import ALGORITHMS, Algorithm
from archer.algorithms.needs import check_needs
from archer.errors import RecipeError, UserError
from archer.parts import find_part
from archer.recipe.config import merged
from archer.recipe.sections import Recipe


def build_algorithm(recipe: Recipe, name: str) -> Algorithm:
    """Return algorithm ``name`` with the recipe's changes made; ``base`` may be ``module:NAME`` or ``./file.py:NAME``.

    Raises RecipeError for an unknown algorithm, field or value, and for one that needs what nothing supplies.
    """
    where = f"{recipe.name}: algorithms: {name}"
    changes = dict(recipe.algorithms.get(name) or {})
    base = str(changes.pop("base", name))
    try:
        found = find_part("algorithms", base, ALGORITHMS)
        if not isinstance(found, Algorithm):
            raise UserError(f"{base} is a {type(found).__name__}; name an archer.algorithms.Algorithm")
        made = merged(found, changes, where)
        check_needs(made)
    except RecipeError:
        raise
    except UserError as error:
        raise RecipeError(f"{where}: {error}") from error
    return made
