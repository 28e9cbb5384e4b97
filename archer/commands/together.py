"""Which options of ``archer eval`` belong together: what would be ignored is refused."""

from __future__ import annotations

import math
from collections.abc import Collection

import typer
from typer.core import TyperOption

from archer.errors import UserError

DRAWN = {"model", "recipe", "seed", "out", "data", "samples", "problems", "max_tokens", "temperature", "changes"}
TAKES = {  # by the option that chooses a way of evaluating, all that it takes
    "power": {"power", "benchmarks", "recipe", "changes"},
    "lm_eval": {*DRAWN, "lm_eval", "context", "include", "chat", "shots", "truncate", "threads"},
    "server": {*DRAWN, "server", "benchmarks", "label", "store", "regrade", "threads", "allow_unisolated"},
    "": {*DRAWN, "benchmarks", "label", "context", "store", "regrade", "threads", "allow_unisolated"},
}
WHY = {
    "power": "--power counts with each benchmark's own K and asks no model",
    "lm_eval": "--lm-eval asks for tasks as lm-eval defines them, on a model loaded here",
    "server": "what --server serves has its own",
    "": "it goes with --lm-eval alone",
}
SPECIAL = "/\\|"  # a label is part of folders' names and of markdown tables


def refuse_ignored(context: typer.Context) -> None:
    """Raise UserError for an option that the chosen way of evaluating would ignore."""
    named = {param.name: param for param in context.command.params if param.name}
    given = {name for name in named if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"}
    way = next((name for name in TAKES if name in given), "")
    for name in sorted(given - TAKES[way]):
        param = named[name]
        option = param.opts[0] if isinstance(param, TyperOption) else name.upper()
        raise UserError(f"{option}: {WHY[way]}; leave it out")


def refuse_values(label: str, temperature: float | None) -> None:
    """Raise UserError for a label that no table or folder can hold, and for a temperature that is no number."""
    if label != label.strip() or not label.isprintable() or not label.strip(".") or set(label) & set(SPECIAL):
        raise UserError(f"--label {label!r}: expected a plain name, without any of {' '.join(SPECIAL)}")
    if temperature is not None and not math.isfinite(temperature):
        raise UserError(f"--temperature {temperature}: expected a number such as 0.6")


def refuse_unused(data: Collection[str], benchmarks: Collection[str]) -> None:
    """Raise UserError for rows of a benchmark that is not asked for."""
    for name in data:
        if name not in benchmarks:
            raise UserError(
                f"--data {name}: not among the benchmarks asked for ({', '.join(benchmarks)}); leave it out, or add it "
                "to --benchmarks"
            )
