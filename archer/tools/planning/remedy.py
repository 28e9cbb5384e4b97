"""What to change so that a plan fits: concrete ``--set`` changes, each set of them verified by the same calculation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from archer.errors import UserError
from archer.recipe.reading import changed_recipe
from archer.tools.planning.memory import GIB, PHASES
from archer.tools.planning.plan import TrainingPlan, make_plan

SHARES = tuple(share / 100 for share in range(90, 5, -5))  # of a GPU for vLLM, the largest that fits first
SERVER = "http://node{}:8000"  # a name to be replaced by a machine's own

Changes = tuple[str, ...]


def remedy(plan: TrainingPlan) -> Changes | None:
    """Return the changes that make the plan fit, the cheapest kinds first; () where it fits, None where none do.

    What changes the experiment itself (LoRA, shorter responses) is tried last.
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
    """Yield single changes that save memory, those that cost least first."""
    recipe, world = plan.recipe, plan.cluster.world
    zero = recipe.update.deepspeed
    yield from [f"rollout.vllm.memory={recipe.rollout.vllm.memory}"] * (
        recipe.rollout.engine == "vllm"
    )  # another share alone
    yield from ["update.checkpointing=true"] * (not recipe.update.checkpointing)
    yield from [f"update.micro_batch_tokens={plan.load.row}"] * (recipe.update.micro_batch_tokens > plan.load.row)
    yield from (
        f"rollout.max_concurrency={slots}" for slots in halves(plan.load.slots) if recipe.rollout.engine == "native"
    )
    yield from ["update.bf16=true"] * (not recipe.update.bf16)
    yield from ["update.deepspeed={stage: 1}"] * (zero is None and world > 1)
    stages = range(zero.stage + 1 if zero else 1, 4) if world > 1 else range(0)
    yield from (f"update.deepspeed.stage={stage}" for stage in stages)
    yield from ["rollout.engine=vllm"] * (recipe.rollout.engine == "native")
    yield from ["update.deepspeed.offload=true"] * (zero is None or not zero.offload)
    yield from [f"rollout.vllm.servers={json.dumps(servers(plan))}"] * (not recipe.rollout.vllm.servers)
    yield from ["update.lora={rank: 32, alpha: 64}"] * (recipe.update.lora is None)
    yield from (f"rollout.max_tokens={tokens}" for tokens in halves(recipe.rollout.max_tokens) if tokens >= 1024)


def halves(number: int) -> Iterator[int]:
    """Yield halves of a number, down to 1."""
    while number > 1:
        number //= 2
        yield number


def servers(plan: TrainingPlan) -> list[str]:
    """Return the URL of a server on each machine of a second set as large as the first."""
    return [SERVER.format(plan.cluster.nodes + node) for node in range(plan.cluster.nodes)]


def planned(plan: TrainingPlan, changes: Changes) -> TrainingPlan | None:
    """Return the plan with changes made; None where they contradict the recipe."""
    try:
        return make_plan(changed_recipe(plan.recipe, changes), plan.algorithm, plan.cluster)
    except UserError:
        return None


def with_share(plan: TrainingPlan, changes: Changes, trial: TrainingPlan) -> Changes | None:
    """Return the changes, with another share for vLLM where only that makes them fit; None where it does not."""
    if not trial.faults:
        return changes
    if trial.recipe.rollout.engine != "vllm":
        return None
    for share in SHARES:
        more = (*changes, f"rollout.vllm.memory={share}")
        found = planned(plan, more)
        if found is not None and not found.faults:
            return more
    return None


def pruned(plan: TrainingPlan, changes: Changes) -> Changes:
    """Return the changes without those that are not needed: of several to one key the last, and none in vain."""
    last = {change.partition("=")[0]: change for change in changes}
    kept = tuple(last.values())
    for change in kept:
        fewer = tuple(one for one in kept if one != change)
        found = planned(plan, fewer)
        if found is not None and not found.faults:
            kept = fewer
    return kept


def badness(plan: TrainingPlan) -> float:
    """Return by how many bytes the phases pass the GPU, so that what helps a little is kept."""
    room = plan.cluster.memory * GIB
    return sum(max(0.0, plan.memory.total(phase) - room) for phase in PHASES) + len(plan.faults)


def more_machines(plan: TrainingPlan, most: int = 64) -> int | None:
    """Return the machines that the plan as it is would fit on, doubling; None where they do not help."""
    nodes = plan.cluster.nodes
    while nodes < most:
        nodes *= 2
        if not make_plan(plan.recipe, plan.algorithm, replace(plan.cluster, nodes=nodes)).faults:
            return nodes
    return None
