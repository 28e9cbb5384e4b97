"""The commands that start a run: one per machine, the engine's servers, and a Slurm script for all of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from archer.engines import find_engine
from archer.engines.spec import EngineSpec
from archer.tools.planning.plan import TrainingPlan
from archer.tools.planning.shape import find_model

PORT = 29500  # the port on the first machine at which the ranks meet
NODE, FIRST = '"$SLURM_NODEID"', '"$FIRST"'  # number of the machine that runs a command, name of the first one


@dataclass(frozen=True)
class PlanRequest:
    """What the user typed: the recipe's name, the ``--set`` changes, the seed and the run folder."""

    recipe: str
    changes: tuple[str, ...] = ()
    seed: int = 0
    out: str = ""


def train_words(plan: TrainingPlan, asked: PlanRequest) -> list[str]:
    """Return the words of `archer train`, the same on every rank."""
    words = ["train", asked.recipe, "--algorithm", plan.algorithm, "--seed", str(asked.seed)]
    words += ["--out", asked.out] if asked.out else []
    for change in asked.changes:
        words += ["--set", change]
    return words


def torchrun(plan: TrainingPlan, node: str, first: str) -> str:
    """Return torchrun's part of a command; ``node`` and ``first`` are literal values or shell variables."""
    cluster = plan.cluster
    return (
        f"torchrun --nnodes {cluster.nodes} --nproc-per-node {cluster.gpus} --node-rank {node} "
        f"--master-addr {first} --master-port {PORT} -m archer"
    )


def train_commands(plan: TrainingPlan, asked: PlanRequest, first: str = "node0") -> list[str]:
    """Return the command of each machine; ``first`` is the name of the first machine."""
    words = shlex.join(train_words(plan, asked))
    if plan.cluster.world == 1:
        return [f"archer {words}"]
    return [f"{torchrun(plan, str(node), first)} {words}" for node in range(plan.cluster.nodes)]


def server_commands(plan: TrainingPlan) -> list[tuple[str, str]]:
    """Return the machine and the command of each server in the recipe. Raises ModelError."""
    recipe = plan.recipe
    launch = find_engine(recipe.rollout).launch
    if launch is None:
        return []
    named, _ = find_model(recipe.model)
    starts = launch(EngineSpec.of(replace(recipe, model=named)))
    return [(start.host, start.command.replace(named.path, recipe.model.path)) for start in starts]


def slurm(plan: TrainingPlan, asked: PlanRequest) -> str:
    """Return a script for `sbatch`. Servers run as separate jobs: the recipe names their machines."""
    cluster = plan.cluster
    command = f"{torchrun(plan, NODE, FIRST)} {shlex.join(train_words(plan, asked))}"
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={plan.recipe.name}-{plan.algorithm}",
        f"#SBATCH --nodes={cluster.nodes}",
        "#SBATCH --ntasks-per-node=1",
        f"#SBATCH --gpus-per-node={cluster.gpus}",
        "#SBATCH --exclusive",
        "#SBATCH --requeue",
        "# Requeued after a machine is lost, it goes on from the last checkpoint; the run folder is on a shared disk.",
        "set -euo pipefail",
        'FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "export FIRST",
        f"srun --kill-on-bad-exit=1 bash -c {shlex.quote(command)}",
    ]
    return "\n".join(lines) + "\n"


def fixed(plan: TrainingPlan, asked: PlanRequest, changes: Sequence[str]) -> str:
    """Return the dry-run command with the changes that make the plan fit."""
    cluster = plan.cluster
    words = train_words(plan, replace(asked, changes=(*asked.changes, *changes)))
    machines = f"--nodes {cluster.nodes} --gpus {cluster.gpus} --gpu-memory {cluster.memory:g}"
    return f"archer {shlex.join(words)} --dry-run {machines}"
