"""What to change so that a plan fits: ``--set`` changes, each combination checked by making its plan."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter
from typing import Any

from archer.engines import find_engine
from archer.engines.kind import GIB
from archer.errors import UserError
from archer.recipe.reading import changed_recipe
from archer.recipe.sections import Recipe
from archer.tools.planning.memory import PHASES
from archer.tools.planning.plan import TrainingPlan, make_plan

SHARES = tuple(share / 100 for share in range(90, 5, -5))  # shares of a GPU for the engine, the largest first
SERVER = "http://node{}:8000"  # a placeholder for a machine's name

Changes = tuple[str, ...]


def remedy(plan: TrainingPlan) -> Changes | None:
    """Return changes that make the plan fit, the cheapest kinds first; () if it fits already, None if none do.

    Changes of the experiment itself (LoRA, shorter responses) are tried last.
    """
    if not plan.faults:
        return ()
    made: Changes = ()
    best = plan
    for change in candidates(plan):
        trial = planned(plan, (*made, change))
        if trial is None:
            continue
        fitting = with_share(plan, (*made, change), trial)
        if fitting is not None:
            return pruned(plan, fitting)
        if badness(trial) < badness(best):
            made, best = (*made, change), trial
    return None


def candidates(plan: TrainingPlan) -> Iterator[str]:
    """Yield single changes that save memory, cheapest first."""
    recipe, world = plan.recipe, plan.cluster.world
    zero, engine = recipe.update.deepspeed, find_engine(recipe.rollout).changes
    if engine.share:  # another share alone
        yield f"{engine.share}={value_at(recipe, engine.share)}"
    yield from ["update.checkpointing=true"] * (not recipe.update.checkpointing)
    yield from [f"update.micro_batch_tokens={plan.load.row}"] * (recipe.update.micro_batch_tokens > plan.load.row)
    yield from (f"{engine.rows}={slots}" for slots in halves(plan.load.slots) if engine.rows)
    yield from ["update.bf16=true"] * (not recipe.update.bf16)
    yield from ["update.deepspeed={stage: 1}"] * (zero is None and world > 1)
    stages = range(zero.stage + 1 if zero else 1, 4) if world > 1 else range(0)
    yield from (f"update.deepspeed.stage={stage}" for stage in stages)
    yield from [f"rollout.engine={engine.instead}"] * bool(engine.instead)
    yield from ["update.deepspeed.offload=true"] * (zero is None or not zero.offload)
    if engine.servers and not value_at(recipe, engine.servers):
        yield f"{engine.servers}={json.dumps(servers(plan))}"
    yield from ["update.lora={rank: 32, alpha: 64}"] * (recipe.update.lora is None)
    yield from (f"rollout.max_tokens={tokens}" for tokens in halves(recipe.rollout.max_tokens) if tokens >= 1024)


def value_at(recipe: Recipe, key: str) -> Any:
    """Return the value of a dotted key."""
    return attrgetter(key)(recipe)


def halves(number: int) -> Iterator[int]:
    """Yield repeated halves of a number, down to 1."""
    while number > 1:
        number //= 2
        yield number


def servers(plan: TrainingPlan) -> list[str]:
    """Return the URLs of servers on a second set of machines as large as the first, one per machine."""
    return [SERVER.format(plan.cluster.nodes + node) for node in range(plan.cluster.nodes)]


def planned(plan: TrainingPlan, changes: Changes) -> TrainingPlan | None:
    """Return the plan with the changes made; None if they contradict the recipe."""
    try:
        return make_plan(changed_recipe(plan.recipe, changes), plan.algorithm, plan.cluster)
    except UserError:
        return None


def with_share(plan: TrainingPlan, changes: Changes, trial: TrainingPlan) -> Changes | None:
    """Return the changes if they fit, with another share for the engine if needed; None if none fits."""
    if not trial.faults:
        return changes
    key = find_engine(trial.recipe.rollout).changes.share
    if not key:
        return None
    for share in SHARES:
        more = (*changes, f"{key}={share}")
        candidate = planned(plan, more)
        if candidate is not None and not candidate.faults:
            return more
    return None


def pruned(plan: TrainingPlan, changes: Changes) -> Changes:
    """Return the changes without those not needed, and only the last of several to one key."""
    last = {change.partition("=")[0]: change for change in changes}
    needed = tuple(last.values())
    for change in needed:
        fewer = tuple(other for other in needed if other != change)
        trial = planned(plan, fewer)
        if trial is not None and not trial.faults:
            needed = fewer
    return needed


def badness(plan: TrainingPlan) -> float:
    """Return by how many bytes the phases exceed the GPU, plus the number of faults; it ranks plans that do not fit."""
    room = plan.cluster.memory * GIB
    return sum(max(0.0, plan.memory.total(phase) - room) for phase in PHASES) + len(plan.faults)


def more_machines(plan: TrainingPlan, most: int = 64) -> int | None:
    """Return a number of machines on which the unchanged plan fits, doubling up to ``most``; None if there is none."""
    nodes = plan.cluster.nodes
    while nodes < most:
        nodes *= 2
        if not make_plan(plan.recipe, plan.algorithm, replace(plan.cluster, nodes=nodes)).faults:
            return nodes
    return None
