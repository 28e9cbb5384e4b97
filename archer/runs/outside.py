"""Which parts of a recipe are from outside the package, and the sha256 of their sources."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from archer.algorithms import ALGORITHMS
from archer.algorithms.advantages import ADVANTAGES
from archer.algorithms.aggregation import AGGREGATIONS
from archer.engines import ENGINES
from archer.errors import RecipeError
from archer.parts import Kind, find_part, part_digests
from archer.problems.formats import FORMATS
from archer.recipe.rewards import reward_entries
from archer.recipe.sections import Recipe
from archer.rewards import REWARDS

SHIPPED: Mapping[Kind, Mapping[str, Any]] = {
    "algorithms": ALGORITHMS, "advantages": ADVANTAGES, "aggregations": AGGREGATIONS, "engines": ENGINES,
    "formats": FORMATS, "rewards": REWARDS,
}  # fmt: skip
CHANGED: Mapping[str, Kind] = {"advantage": "advantages", "aggregation": "aggregations"}  # of an algorithm


def outside_parts(recipe: Recipe, algorithms: Iterable[str] = ()) -> dict[str, str]:
    """Return the sha256 of the source of every outside part that a run's numbers depend on, by ``KIND: NAME``.

    So are files that a reward's options name, such as a judge's prompt. Trackers are none of these, nor are algorithms
    but those named. Raises UserError for a part that there is not.
    """
    return part_digests(_named(recipe, algorithms), SHIPPED) | dict(_files(recipe))


def _files(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield the files that options of shipped rewards name, with their sha256."""
    for entry in (entry for source in recipe.data for entry in reward_entries(source.reward)):
        for option in getattr(REWARDS.get(entry.name), "files", ()):
            if path := entry.options.get(option):
                try:
                    content = Path(path).expanduser().read_bytes()
                except OSError as error:
                    raise RecipeError(f"reward: {entry.name}: {option}: {path}: {error}") from error
                yield f"rewards: {path}", hashlib.sha256(content).hexdigest()


def _named(recipe: Recipe, algorithms: Iterable[str]) -> Iterator[tuple[Kind, str]]:
    yield "engines", recipe.rollout.engine
    for source in recipe.data:
        for entry in reward_entries(source.reward):
            yield "rewards", entry.name
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
