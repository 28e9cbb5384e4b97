"""The plan as text: the model, the memory of a GPU, the work, the commands, and what to change."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from archer.engines.kind import GIB
from archer.terminal import terminal
from archer.tools.planning.launch import PlanRequest, fixed, server_commands, slurm, train_commands
from archer.tools.planning.memory import PHASES, PROMPT
from archer.tools.planning.plan import TrainingPlan, missing_data
from archer.tools.planning.remedy import more_machines, remedy

WIDTH = 120
NOT_KNOWN = (
    "Not counted is what the engine takes: rollout.engine {} does not tell, so it is not known whether that fits."
)


def show(plan: TrainingPlan, asked: PlanRequest) -> None:
    """Print the plan."""
    console = terminal()
    console = console if console.is_terminal else terminal(width=WIDTH)
    for text in (model_lines(plan), work_lines(plan)):
        say(console, text)
    console.print(memory_table(plan))
    say(console, f"\nA machine's own memory: {plan.memory.host / GIB:,.0f} GiB while weights load, or later\n")
    say(console, verdict(plan, asked))
    say(console, commands(plan, asked))


def say(console: Console, text: str) -> None:
    """Print a text unwrapped, so that commands stay on one line."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def model_lines(plan: TrainingPlan) -> str:
    """Return the lines on the model."""
    shape, lora = plan.shape, plan.recipe.update.lora
    lines = [f"{plan.recipe.name}, {plan.algorithm}: {plan.recipe.model.path}"]
    active = f", {shape.active:,} of them at work on a token" if shape.active != shape.parameters else ""
    lines.append(f"  parameters      {shape.parameters:,}{active}")
    if lora is not None:
        lines.append(f"  trained         {shape.adapter:,} (LoRA, rank {lora.rank})")
    lines.append(f"  configuration   from {shape.source}")
    for name, why in missing_data(plan.recipe).items():
        lines.append(f"  data            {name} is not there yet: {why}")
    return "\n".join(lines)


def work_lines(plan: TrainingPlan) -> str:
    """Return the lines on what a step and the run do."""
    work, load, cluster = plan.work, plan.load, plan.cluster
    rollout, update, assumed = plan.recipe.rollout, plan.recipe.update, " (assumed)" if load.prompt == PROMPT else ""
    return "\n".join([
        f"  machines        {cluster.nodes} x {cluster.gpus} GPUs of {cluster.memory:g} GiB",
        f"  a step          {rollout.prompts} prompts x {rollout.samples_per_prompt} = {work.responses:,} responses,"
        f" at most {work.tokens:,} tokens; {load.responses:,} responses a rank",
        f"  updates         {update.epochs} epochs x mini-batches of {update.mini_batch} prompts = {work.updates} "
        f"optimizer steps a step",
        f"  the run         {work.steps:,} steps, {work.total:,} optimizer steps",
        f"  longest row     {load.row:,} tokens, {load.prompt:,} of them the prompt's{assumed}; a micro-batch holds at "
        f"most {load.micro:,}\n",
    ])  # fmt: skip


def memory_table(plan: TrainingPlan) -> Table:
    """Return the parts of a GPU's memory by phase; the unit is MiB if all are small."""
    own = max(plan.memory.total(phase) for phase in PHASES) - plan.memory.reserve
    unit, name = (GIB, "GiB") if own >= GIB else (GIB / 1024, "MiB")
    table = Table(title=f"{name} of one GPU", box=None, title_justify="left", pad_edge=False)
    table.add_column("part", style="bold")
    for phase in PHASES:
        table.add_column(phase, justify="right")
    table.add_column("", style="dim", overflow="fold")
    for part in plan.memory.parts:
        table.add_row(part.name, *(shown(getattr(part, phase), unit) for phase in PHASES), part.note)
    totals = [shown(plan.memory.total(phase), unit) for phase in PHASES]
    table.add_row("total", *totals, f"of {shown(plan.cluster.memory * GIB, unit)}", style="bold")
    return table


def shown(size: float, unit: float) -> str:
    """Return bytes in a unit; 0 as a dot."""
    return f"{size / unit:,.2f}" if size else "."


def verdict(plan: TrainingPlan, asked: PlanRequest) -> str:
    """Return whether the plan fits and, if not, what to change."""
    if not plan.faults:
        fits = f"It fits: {plan.memory.peak / GIB:.1f} of {plan.cluster.memory:.1f} GiB at most."
        return f"{fits}\n{NOT_KNOWN.format(plan.recipe.rollout.engine)}" if plan.memory.partial else fits
    lines = ["It does NOT fit:", *(f"  - {fault}" for fault in plan.faults)]
    changes = remedy(plan)
    if changes:
        lines.append("With these changes it does:")
        lines += [f"    --set '{change}'" for change in changes]
        lines.append(f"See: {fixed(plan, asked, changes)}")
    else:
        lines.append("No change of the recipe that is tried here makes it fit these machines.")
    nodes = more_machines(plan)
    if nodes is not None:
        lines.append(f"As it is, it fits {nodes} machines of {plan.cluster.gpus} GPUs (--nodes {nodes}).")
    return "\n".join(lines)


def commands(plan: TrainingPlan, asked: PlanRequest) -> str:
    """Return the launch commands, with a Slurm script for several ranks."""
    lines = []
    for host, command in server_commands(plan):
        lines += [f"\nOn {host}, first:", f"  {command}"]
    for node, command in enumerate(train_commands(plan, asked)):
        lines += [f"\nOn node{node}:" if plan.cluster.world > 1 else "\nTo start it:", f"  {command}"]
    if plan.cluster.world > 1:
        lines += ["\nOr with Slurm, as a script for `sbatch`:\n", slurm(plan, asked)]
    return "\n".join(lines)
