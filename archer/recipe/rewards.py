"""How rewards are written: a name, a name with options, or a list of these, which is their weighted sum.

    reward: math
    reward: {name: math, find: [box, latex, expr]}
    reward: [{name: math}, {name: format, weight: 0.1, pattern: "<answer>.*</answer>"}]

A recipe, a benchmark and a ``Problem`` hold it as one string, its spec: the bare name where nothing else is said, else
JSON with sorted keys. What the options of a reward are, ``archer.rewards`` knows.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from archer.errors import RecipeError
from archer.types import Json

OWN = ("name", "weight", "as")  # keys of an entry that are no options of its reward


@dataclass(frozen=True)
class RewardEntry:
    """One reward of a sum: its ``spec`` (a name, or JSON with options), its weight, and its name in metrics."""

    name: str
    label: str
    weight: float
    options: Mapping[str, Json]

    @property
    def spec(self) -> str:
        """The spec of this reward alone."""
        return _json({"name": self.name, **self.options}) if self.options else self.name


def reward_spec(value: Json) -> str:
    """Return the spec of what a recipe's key ``reward`` holds. Raises ValueError with what is wrong with it."""
    if isinstance(value, str) and not _is_json(value):
        return value
    entries = _entries(json.loads(value) if isinstance(value, str) else value)
    if len(entries) == 1 and entries[0].weight == 1.0 and entries[0].label == default_label(entries[0].name):
        return entries[0].spec
    return _json([
        {"name": one.name, "weight": one.weight, **one.options}
        | ({} if one.label == default_label(one.name) else {"as": one.label})
        for one in entries
    ])  # fmt: skip


@cache
def reward_entries(spec: str) -> tuple[RewardEntry, ...]:
    """Return the rewards of a spec, the one that an evaluation counts first. Raises RecipeError."""
    try:
        return _entries(json.loads(spec) if _is_json(spec) else spec)
    except ValueError as error:  # JSONDecodeError is one
        raise RecipeError(f"reward: {spec}: {error}") from error


def first_reward(spec: str) -> str:
    """Return the name of a spec's first reward: the one whose golds the problems have."""
    return reward_entries(spec)[0].name if _is_json(spec) else spec


def counted_reward(spec: str) -> str:
    """Return the spec of what an evaluation counts: of a sum its first reward, with its options and without weight."""
    return reward_entries(spec)[0].spec if _is_json(spec) else spec


def written_reward(spec: str) -> Json:
    """Return a spec as a recipe writes it: a name, keys and values, or a list."""
    return json.loads(spec) if _is_json(spec) else spec


def default_label(name: str) -> str:
    """Return what a reward is called in metrics: its name, for ``./mine.py:brevity`` only ``brevity``."""
    return name.rpartition(":")[2]


def _is_json(text: str) -> bool:
    return text.startswith(("{", "["))


def _json(value: Json) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _entries(value: Json) -> tuple[RewardEntry, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    if not items:
        raise ValueError("expected at least one reward, found an empty list")
    entries = tuple(_entry(item) for item in items)
    twice = [label for label, count in Counter(one.label for one in entries).items() if count > 1]
    if twice:
        raise ValueError(f"two rewards are called {twice[0]!r} in metrics; call one of them otherwise with `as: NAME`")
    return entries


def _entry(item: Json) -> RewardEntry:
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str) or not item["name"]:
        raise ValueError(f"expected a reward's name, or keys and values with its `name`, found {item!r}")
    weight, label = item.get("weight", 1.0), item.get("as", default_label(item["name"]))
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ValueError(f"{item['name']}: weight: expected a number, found {weight!r}")
    if not isinstance(label, str) or not label:
        raise ValueError(f"{item['name']}: as: expected a name, found {label!r}")
    options = {key: option for key, option in item.items() if key not in OWN}
    return RewardEntry(item["name"], label, float(weight), options)
