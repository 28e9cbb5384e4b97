"""How many problems and samples it takes to see a difference between two models: ``archer power``.

A score varies because problems differ and because samples are random (:mod:`archer.evaluation.difficulty`). Two models
of equal accuracy are compared in three ways. Paired: on the same problems, where their chances correlate by r.
Unpaired: each on problems of its own. Same problems: on these very problems, where only sampling is random. Power 0.8,
level 0.05.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, median

import numpy as np
from rich.console import Console
from statsmodels.stats.power import NormalIndPower, TTestIndPower, TTestPower

from archer.errors import UserError
from archer.evaluation.benchmark import Benchmark, expand, read_benchmark
from archer.evaluation.difficulty import Difficulty, correlation, from_scores
from archer.evaluation.named_metrics import score_bounds
from archer.evaluation.statistics import SHARES
from archer.leaderboards.layouts import Page, PageTable, TerminalPage
from archer.leaderboards.paper.collect import fitting, gather
from archer.leaderboards.paper.noise import CORRELATION, POINTS, Z
from archer.leaderboards.paper.table import known_spreads
from archer.system import suite
from archer.types import Result

POWER, LEVEL = 0.8, 0.05
DEFAULT = Difficulty(0.5, 0.165)  # if nothing is stored or printed: 66 % of p (1 - p), as on the paper's benchmarks
SOLVERS = {"paired": TTestPower(), "unpaired": TTestIndPower(), "same problems": NormalIndPower()}
WAYS = tuple(SOLVERS)
WIDTH = 100


@dataclass(frozen=True)
class PowerSetting:
    """A benchmark's size, its difficulty for the models, and ``alike``, the correlation of their chances.

    ``source`` tells what these rest on, ``left_out`` which results were not used and why.
    """

    name: str
    problems: int
    samples: int
    difficulty: Difficulty
    alike: float
    source: str
    left_out: tuple[str, ...] = ()

    def deviation(self, way: str, samples: float) -> float:
        """Return the SD that one problem contributes: to the difference if paired, else to a score."""
        difficulty = self.difficulty
        if way == "paired":
            return math.sqrt(2 * difficulty.between * (1 - self.alike) + 2 * difficulty.within / samples)
        return math.sqrt((difficulty.between if way == "unpaired" else 0.0) + difficulty.within / samples)

    def smallest(self, way: str) -> float:
        """Return the smallest difference that the benchmark's own problems and samples can show."""
        return effect(way, self.problems) * self.deviation(way, self.samples)

    def problems_for(self, way: str, difference: float) -> float:
        """Return the number of problems needed at the benchmark's K."""
        deviation = self.deviation(way, self.samples)
        size = difference / deviation if deviation > 0 else math.inf
        if effect(way, 2) <= size:
            return 2
        return math.ceil(solved(SOLVERS[way].solve_power(effect_size=size, alpha=LEVEL, power=POWER)))

    def samples_for(self, way: str, difference: float) -> float:
        """Return the K needed on the benchmark's problems; infinite if these are too few for any K."""
        room = (difference / effect(way, self.problems)) ** 2
        spare = room - self.deviation(way, math.inf) ** 2
        needed = self.difficulty.within * (2 if way == "paired" else 1) / spare if spare > 0 else math.inf
        return max(math.ceil(needed), 1) if math.isfinite(needed) else math.inf


def effect(way: str, problems: int) -> float:
    """Return the smallest difference that so many problems (per model if unpaired) can show, in SDs of one problem."""
    sizes = {"nobs": problems} if way == "paired" else {"nobs1": problems}
    return solved(SOLVERS[way].solve_power(effect_size=None, alpha=LEVEL, power=POWER, **sizes))


def solved(solution: object) -> float:
    """Return a solution of statsmodels as a float; it is an array of one if the first solver failed."""
    return float(np.asarray(solution, dtype=float).item())


def report(difference: float, benchmarks: Sequence[str]) -> str:
    """Return, as text, what each benchmark can show and what it would need for ``difference`` (0.02 is 2 points).

    Difficulties come from stored results, else from published scores, else they are assumed. Raises UserError for a
    difference that is not between 0 and 1, DataError for an unknown benchmark.
    """
    if not 0 < difference < 1:
        raise UserError(
            f"archer power {difference}: give a difference in accuracy between 0 and 1, as 0.02 for 2 points"
        )
    settings = [setting(read_benchmark(name)) for name in expand(benchmarks)]
    header = (
        "",
        "compared",
        "smallest\nseen",
        f"problems\nfor {POINTS * difference:g}",
        f"samples\nfor {POINTS * difference:g}",
    )
    rows = [row for case in settings for row in rows_of(case, difference)]
    rows += [mean_row(settings, way) for way in WAYS] if len(settings) > 1 else []
    title = f"To tell two models apart that differ by {POINTS * difference:g} points (power 80 %, level 5 %)"
    console = Console(width=WIDTH, file=io.StringIO(), record=True)
    remarks = dict.fromkeys(line for case in settings for line in (basis(case), *case.left_out))
    console.print(TerminalPage(Page(title, (PageTable(header, tuple(rows), notes=tuple(remarks)),), NOTES)))
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


NOTES = (
    "smallest seen: with the benchmark's own problems and K samples, in points; problems: needed at its K; samples: "
    "K needed on its problems, never where they are too few for any K.",
    "paired: the same problems for both; unpaired: problems of its own for each model; same problems: nothing but "
    "sampling is chance, and what is found holds of these problems only.",
    "One training run a model: how far another seed of the same training would end elsewhere comes on top.",
)


def rows_of(case: PowerSetting, difference: float) -> list[tuple[str, ...]]:
    """Return a benchmark's rows, one per way of comparing."""
    rows = []
    for way in WAYS:
        name = f"{case.name} {case.problems} x {case.samples}" if way == WAYS[0] else ""
        problems, samples = case.problems_for(way, difference), case.samples_for(way, difference)
        numbers = ("never" if math.isinf(count) else f"{count:,.0f}" for count in (problems, samples))
        rows.append((name, way, f"{POINTS * case.smallest(way):.1f}", *numbers))
    return rows


def mean_row(settings: Sequence[PowerSetting], way: str) -> tuple[str, ...]:
    """Return the row of the benchmarks' mean, whose noise is independent."""
    square = sum(case.smallest(way) ** 2 for case in settings)
    name = f"mean of {len(settings)}" if way == WAYS[0] else ""
    return name, way, f"{POINTS * math.sqrt(square) / len(settings):.1f}", "", ""


def basis(case: PowerSetting) -> str:
    """Return the sentence that tells what a benchmark's rows rest on."""
    spread, rerun = (
        POINTS * part(case.problems, case.samples) for part in (case.difficulty.spread, case.difficulty.rerun)
    )
    share = case.difficulty.between / (case.difficulty.between + case.difficulty.within)
    words = ("accuracy", "p (1 - p)") if case.difficulty.sampled is None else ("mean score", "the scores' variance")
    return (
        f"{case.name}: {words[0]} {case.difficulty.mean:.2f}, {share:.0%} of {words[1]} between problems, "
        f"r {case.alike:.2f} ({case.source}). One model: ±{Z * spread:.1f} points over problems, rerun SD {rerun:.2f}."
    )


def setting(benchmark: Benchmark) -> PowerSetting:
    """Return a benchmark's setting from stored results, else from published scores, else assumed."""
    size = (benchmark.name, benchmark.problems, benchmark.samples)
    results, left_out = stored(benchmark.name)
    scores = [(result.label, np.asarray(result.scores)) for result in results]
    telling = [(label, score_PK) for label, score_PK in scores if np.ptp(score_PK) > 0]
    same = "all right or all wrong" if all(result.right_or_wrong for result in results) else "the same score throughout"
    blank = f"; of {len(results)} stored results {len(results) - len(telling)} are {same}: nothing told"
    blank = blank if len(telling) < len(results) else ""
    if telling:
        difficulties = [from_scores(score_PK) for _, score_PK in telling]
        pairs = [correlation(left, other) for (a, left), (b, other) in combinations(telling, 2) if a != b]
        known = average(difficulties)
        source = f"{len(telling)} stored results" + ("" if pairs else "; r assumed") + blank
        return PowerSetting(*size, known, median(pairs) if pairs else CORRELATION, source, left_out)
    spread = known_spreads().get(benchmark.name)
    if spread is not None:
        return PowerSetting(*size, spread.difficulty, CORRELATION, f"published scores; r assumed{blank}", left_out)
    return PowerSetting(*size, DEFAULT, CORRELATION, f"assumed{blank}", left_out)


def average(difficulties: Sequence[Difficulty]) -> Difficulty:
    """Return the mean of several models' difficulties; of scores between right and wrong with the samples' variance."""
    mean, between = fmean(each.mean for each in difficulties), fmean(each.between for each in difficulties)
    partial = any(each.sampled is not None for each in difficulties)
    return Difficulty(mean, between, fmean(each.within for each in difficulties) if partial else None)


def stored(benchmark: str) -> tuple[list[Result], tuple[str, ...]]:
    """Return a benchmark's results and sentences on what was left out.

    They are those committed, those of committed comparisons and those in ``./results``.
    """
    root = suite("leaderboards")
    folders = [root / "results", *(path.parent for path in sorted(root.glob("*/manifest.json"))), Path("results")]
    gathered = gather([folder for folder in folders if folder.is_dir()])
    fit, complaints = fitting(gathered.found, benchmark)
    remarks = [f"{benchmark}: {len(complaints)} stored results left out; {complaints[0]}"] if complaints else []
    if gathered.damaged:
        remarks.append(f"{len(gathered.damaged)} files are no results; {gathered.damaged[0].splitlines()[0]}")
    wide = [result for result in fit if score_bounds([result]) != SHARES]
    if wide:
        remarks.append(f"{benchmark}: {len(wide)} stored results left out; their scores are not within 0 and 1")
    return [result for result in fit if result.samples > 1 and result not in wide], tuple(remarks)
