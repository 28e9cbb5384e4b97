"""Evaluating a model from Python: what ``archer.evaluate`` and ``archer.benchmarks`` call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from archer.evaluation.benchmark import Benchmark, benchmark_names, expand, read_benchmark
from archer.evaluation.evaluate import EvalWatcher, SilentWatcher
from archer.evaluation.model import EvalRequest, eval_folder, evaluate_model
from archer.evaluation.named_metrics import find_metrics, measured, trusted_metrics
from archer.recipe.config import merged
from archer.recipe.reading import read_recipe
from archer.runs.loaded import rows_of_result
from archer.types import Json, Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Evaluation:
    """The results of a model on benchmarks."""

    results: tuple[Result, ...]

    def to_pandas(self) -> pd.DataFrame:
        """Return one row a benchmark: K, its metrics with 95 % intervals, truncated share, mean tokens.

        A metric's columns are ``avg@k``, ``avg@k low`` and ``avg@k high``; NaN for a benchmark that does not name it.
        """
        import pandas as pd

        return pd.DataFrame([score_of(result) for result in self.results]).set_index("benchmark")

    @property
    def samples(self) -> pd.DataFrame:
        """One row a sample: problem, score, passed, reason, stop, tokens, answer; ``correct`` is ``passed``."""
        import pandas as pd

        return pd.DataFrame([row for result in self.results for row in rows_of_result(result)])


def evaluate(
    model: str | Path, benchmarks: str | Sequence[str], *, samples: int | None = None,
    sampling: Mapping[str, Json] | None = None, seed: int = 0, out: str | Path | None = None, label: str = "model",
    data: Mapping[str, str | Path] | None = None, problems: int | None = None, server: str = "",
    changes: Sequence[str] = (), threads: int = 0, allow_unisolated: bool = False, watch: EvalWatcher | None = None,
) -> Evaluation:  # fmt: skip
    """Evaluate a model as it is; samples and results are kept in ``out``, where an unfinished evaluation goes on.

    ``model`` is a Hugging Face folder or hub name, or ``lab``; with ``server``, the URL of an OpenAI-compatible server,
    the name it serves. ``benchmarks`` are names of benchmarks or suites (:func:`benchmarks`). ``samples`` overrides
    their K, ``sampling`` single values of how they are sampled (``{"max_tokens": 8192}``). ``data`` gives files of
    benchmarks' rows by name, ``problems`` takes the first ones alone. ``out`` (None: as ``archer eval``) and ``label``
    name the folder and the row of tables; ``changes`` are ``key.key=value`` strings as of ``--set``.

    Raises UserError for what is asked in vain, OurError for what broke here: never a score.
    """
    names = [benchmarks] if isinstance(benchmarks, str) else list(benchmarks)
    recipe = read_recipe("lab", changes)
    chosen = merged(recipe.evaluate.sampling, sampling or {}, "sampling")
    section = replace(
        recipe.evaluate, benchmarks=tuple(expand(names)), samples=samples or recipe.evaluate.samples, server=server,
        sampling=chosen,
    )  # fmt: skip
    recipe = replace(recipe, model=replace(recipe.model, path=str(model)), evaluate=section)
    request = EvalRequest(
        recipe, label, seed, Path(out) if out else eval_folder(str(model), label, seed), threads, allow_unisolated,
        {name: Path(path) for name, path in (data or {}).items()}, problems=problems,
    )  # fmt: skip
    return Evaluation(tuple(evaluate_model(request, watch or SilentWatcher())))


def benchmarks() -> dict[str, Benchmark]:
    """Return the benchmarks by name: their data, K, sampling, licence and source."""
    return {name: read_benchmark(name) for name in benchmark_names()}


def score_of(result: Result) -> dict[str, Json]:
    """Return what a result comes to, as plain numbers: its metrics, shares, and tokens a response."""
    flat = [length for lengths in result.tokens for length in lengths]
    cut = [stop == "length" for stops in result.stops for stop in stops]
    found: dict[str, Json] = {"benchmark": result.benchmark, "problems": len(result.problems), "k": result.samples}
    for metric in find_metrics(trusted_metrics(result)):
        name, score = metric.title("k"), measured(metric, result)
        found |= {name: score.value, f"{name} low": score.low, f"{name} high": score.high}
    return {**found, "truncated": sum(cut) / len(cut), "tokens": sum(flat) / len(flat)}
