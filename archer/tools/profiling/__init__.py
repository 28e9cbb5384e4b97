"""``archer train RECIPE --profile STEPS``: where a step's time goes, and how that compares with the machine's limits.

The first step of the process warms up; the next ``STEPS`` are timed; one more is traced by torch's profiler. Then
``profile/`` in the run folder holds ``profile.json`` and ``trace.json.gz``, and training continues. Profiling changes
nothing that the run samples, trains or writes, bit by bit.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import torch

from archer.distributed import Ranks
from archer.engines.base import Engine
from archer.engines.native.decoder import Decoder
from archer.recipe.sections import Recipe
from archer.system import listen, provenance, write_aside
from archer.tools.profiling.costs import costs_of
from archer.tools.profiling.page import show, words
from archer.tools.profiling.rates import measure_rates
from archer.tools.profiling.roofline import MachineRates, ModelCosts
from archer.tools.profiling.split import SplitRow, StepSplit, split_of
from archer.tools.profiling.trace import StepTrace, TracedOperators
from archer.tools.profiling.watch import DECODER, MECHANICS, Stopwatch, spans_of
from archer.tools.profiling.watch import Path as Part
from archer.trainer import Trainer
from archer.types import Json

KEPT = 10  # operators of a part in profile.json
logger = logging.getLogger(__name__)


class StepProfiler:
    """A tracker (:class:`archer.runs.trackers.Tracker`) that measures ``steps`` steps after the first."""

    def __init__(
        self, recipe: Recipe, steps: int, folder: Path, trainer: Trainer, engine: Engine, ranks: Ranks
    ) -> None:
        self.recipe, self.steps, self.folder, self.trainer, self.engine = recipe, steps, folder, trainer, engine
        self.ranks = ranks
        self.device = next(trainer.backend.model.parameters()).device
        self.watching = ExitStack()
        self.watch: Stopwatch | None = None
        self.trace: StepTrace | None = None
        self.done = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Called at the end of a step: start timing or tracing, or write the profile."""
        if self.done:
            return
        if self.watch is None:
            self._begin()
        elif self.trace is not None:
            self.trace.stop()
            self._finish()
        else:
            self.watch.end()
            if self.watch.seen.steps < self.steps:
                self.watch.begin()
            else:
                self.trace = StepTrace(self.device)
                listen(self.trace)

    def close(self) -> None:
        """Stop; if the run ends early, write what was measured."""
        if self.done:
            return
        if self.trace is not None:
            self.trace.stop()
            self.trace = None
        if self.watch is not None and self.watch.seen.steps:
            self._finish()
        else:
            self._leave()
            logger.warning(
                "--profile: no step was measured, because the first one only warms up; let the run go on for 2 steps "
                "or more"
            )

    def _begin(self) -> None:
        bf16 = torch.bfloat16 if self.recipe.update.bf16 else torch.float32
        self.rates, self.costs = measure_rates(self.device, bf16), costs_of(self.recipe, self.ranks.world)
        tallies = [getattr(part, "tally", {}) for part in (self.trainer, self.engine)]  # servers count nothing here
        self.watch = Stopwatch(self.device, tallies)
        self.watching.enter_context(spans_of(self.trainer.backend, MECHANICS))
        self.watching.enter_context(spans_of(Decoder, DECODER))
        listen(self.watch)
        self.watching.callback(listen, None)
        self.watch.begin()

    def _leave(self) -> None:
        self.done = True
        self.watching.close()

    def _finish(self) -> None:
        self._leave()
        assert self.watch is not None
        operators = self.trace.operators() if self.trace else {}
        split = split_of(self.watch.seen, self.rates, self.costs, operators)
        folder = self.folder / "profile"
        folder.mkdir(exist_ok=True)
        if self.trace:
            self.trace.write(folder / "trace.json.gz")
        profile = record(split, self.watch.seen.seconds, operators, (self.rates, self.costs), self._where())
        write_aside(folder / "profile.json", json.dumps(profile, indent=1) + "\n")
        steps = self.watch.seen.steps
        whose = f" of rank 0 of {self.ranks.world}" if self.ranks.world > 1 else ""
        show(split, operators, f"Profile{whose}: {self.recipe.name}, steps timed: {steps}, one traced ({folder})")

    def _where(self) -> dict[str, Json]:
        gpu = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None
        rank = {"rank": self.ranks.rank, "world": self.ranks.world}
        return {**provenance(), "gpu": gpu, "threads": torch.get_num_threads(), **rank}


def open_profile(
    recipe: Recipe, steps: int, folder: Path, trainer: Trainer, engine: Engine, ranks: Ranks, stack: ExitStack
) -> StepProfiler:
    """Return the profiler of ``steps`` steps of the run; it closes with ``stack``."""
    profile = StepProfiler(recipe, steps, folder, trainer, engine, ranks)
    stack.callback(profile.close)
    return profile


def record(
    split: StepSplit,
    seconds: list[float],
    operators: Mapping[Part, TracedOperators],
    against: tuple[MachineRates, ModelCosts],
    where: Json,
) -> dict[str, Json]:
    """Return the profile as plain values: numbers of an average step, operators of the traced one."""
    rates, costs = against
    return {
        "where": where, "seconds": seconds, "rates": asdict(rates), "costs": asdict(costs),
        "parts": [as_json(row, split, operators) for row in split.rows], "words": words(split),
    }  # fmt: skip


def as_json(row: SplitRow, split: StepSplit, operators: Mapping[Part, TracedOperators]) -> dict[str, Json]:
    """Return one part: seconds, work, needs, and how far it is from the roofline."""
    values: dict[str, Json] = {"part": "/".join(row.path), "seconds": row.seconds, "each": row.each, "calls": row.calls}
    if row.work:
        values |= {"work": asdict(row.work)}
    if row.need and row.seconds:
        least = split.rates.least(row.need)
        values |= {
            **asdict(row.need), "least": least, "bound": split.rates.bound(row.need),
            "times_least": row.seconds / least, "flops_per_second": row.need.flops / row.seconds,
            "mfu": (row.need.flops - row.need.again) / row.seconds / split.rates.flops,
        }  # fmt: skip
    if row.operators is not None:
        values |= {"operators_a_call": row.operators, "kernels_a_call": row.kernels}
    if row.path in operators:
        part = operators[row.path]
        most = sorted(part.microseconds, key=lambda name: -part.microseconds[name])[:KEPT]
        values["top"] = [
            {"name": name, "microseconds": round(part.microseconds[name], 1), "calls": part.counts.get(name, 0)}
            for name in most
        ]
    return values
