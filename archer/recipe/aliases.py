"""Keys that had another name before: recipes, ``--set`` and run folders that use the old one are read as before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from archer.errors import RecipeError

KEYS = {
    "model.template": "model.chat_template_kwargs",
    "rollout.group": "rollout.samples_per_prompt",
    "rollout.slots": "rollout.max_concurrency",
    "rollout.ahead": "rollout.prefetch",
    "update.tokens": "update.micro_batch_tokens",
    "update.clip_norm": "update.max_grad_norm",
    "reward.engines": "reward.docker_hosts",
    "evaluate.every": "evaluate.during_training.every",
    "evaluate.curve_problems": "evaluate.during_training.problems",
    "evaluate.curve_samples": "evaluate.during_training.samples",
    "algorithms.*.row": "algorithms.*.base",
    "algorithms.*.averaging": "algorithms.*.aggregation",
    "algorithms.*.groups": "algorithms.*.group_filter",
    "algorithms.*.refills": "algorithms.*.max_resample_rounds",
}
VALUES = {"algorithms.*.groups": {"all": "none", "drop": "drop", "refill": "resample"}}


def upgrade(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a recipe's values under today's keys. Raises RecipeError where an old key stands beside its new one."""
    found = copied(values)
    for old, new in KEYS.items():
        for names in matches(found, old.split(".")):
            target = [
                name if part == "*" else part for part, name in zip(new.split("."), [*names, "", ""], strict=False)
            ]
            move(found, names, target, VALUES.get(old, {}), where)
    return found


def new_key(path: str) -> str:
    """Return today's name of a dotted key, as in ``--set rollout.slots=16``."""
    names = path.split(".")
    for old, new in KEYS.items():
        parts = old.split(".")
        if len(names) >= len(parts) and all(part in ("*", name) for part, name in zip(parts, names, strict=False)):
            fresh = [names[place] if part == "*" else part for place, part in enumerate(new.split("."))]
            return ".".join([*fresh, *names[len(parts) :]])
    return path


def new_value(path: str, value: Any, where: str) -> Any:
    """Return the value of a dotted key with all keys and words in it as they are called today."""
    names = path.split(".")
    nested = value
    for name in reversed(names):
        nested = {name: nested}
    nested = upgrade(nested, where)
    for name in new_key(path).split("."):
        nested = nested[name]
    return nested


def matches(values: Mapping[str, Any], parts: list[str]) -> Iterator[list[str]]:
    """Yield the keys that lead to every value that a dotted name with ``*`` stands for."""
    part, *rest = parts
    for name in [name for name in values if part in ("*", name)]:
        if not rest:
            yield [name]
        elif isinstance(values[name], Mapping):
            yield from ([name, *inner] for inner in matches(values[name], rest))


def move(values: dict[str, Any], old: list[str], new: list[str], words: Mapping[str, str], where: str) -> None:
    """Move one value in nested mappings."""
    place = values
    for name in old[:-1]:
        place = place[name]
    value = place.pop(old[-1])
    place = values
    for name in new[:-1]:
        place = place.setdefault(name, {})
    if new[-1] in place:
        raise RecipeError(
            f"{where}: {'.'.join(old)} is the old name of {'.'.join(new)}, and both are given; leave the old one out"
        )
    place[new[-1]] = words.get(value, value) if isinstance(value, str) else value


def copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings as new ones."""
    return {key: copied(value) if isinstance(value, Mapping) else value for key, value in values.items()}
