"""Which parts of a recipe are from outside the package, and the sha256 of their sources."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from archer.algorithms import ALGORITHMS
from archer.algorithms.advantages import ADVANTAGES
from archer.algorithms.aggregation import AGGREGATIONS
from archer.engines import ENGINES
from archer.parts import Kind, find_part, part_digests
from archer.problems.formats import FORMATS
from archer.recipe.sections import Recipe
from archer.rewards import REWARDS

SHIPPED: Mapping[Kind, Mapping[str, Any]] = {
    "algorithms": ALGORITHMS, "advantages": ADVANTAGES, "aggregations": AGGREGATIONS, "engines": ENGINES,
    "formats": FORMATS, "rewards": REWARDS,
}  # fmt: skip
CHANGED: Mapping[str, Kind] = {"advantage": "advantages", "aggregation": "aggregations"}  # of an algorithm


def outside_parts(recipe: Recipe, algorithms: Iterable[str] = ()) -> dict[str, str]:
    """Return the sha256 of the source of every outside part that a run's numbers depend on, by ``KIND: NAME``.

    Trackers are none of these, nor are algorithms but those named. Raises UserError for a part that there is not.
    """
    return part_digests(_named(recipe, algorithms), SHIPPED)


def _named(recipe: Recipe, algorithms: Iterable[str]) -> Iterator[tuple[Kind, str]]:
    yield "engines", recipe.rollout.engine
    for source in recipe.data:
        for name in _names(source.reward):
            yield "rewards", name
        if source.format:
            yield "formats", source.format
    for name in algorithms:
        changes = recipe.algorithms.get(name) or {}
        base = str(changes.get("base", name))
        yield "algorithms", base
        row = find_part("algorithms", base, ALGORITHMS)
        for key, kind in CHANGED.items():
            part = changes.get(key, getattr(row, key))
            if isinstance(part, str):
                yield kind, part


def _names(reward: str) -> list[str]:
    """Return the names in a source's reward: one, or as JSON one with options, or a list of such."""
    found = json.loads(reward) if reward.startswith(("[", "{")) else {"name": reward}
    return [str(one["name"]) for one in (found if isinstance(found, list) else [found])]
