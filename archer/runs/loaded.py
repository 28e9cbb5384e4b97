"""A run folder as tables: what ``archer.load_run`` returns, finished or not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from archer.errors import RunFolderError
from archer.runs.folder import read_lines, read_manifest
from archer.runs.results import read_result
from archer.types import Json, Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LoadedRun:
    """The folder of `archer train`, `archer eval`, or of one run of `archer compare`; each part is read on access."""

    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Json]:
        """Recipe, algorithm, seed, commit, versions and machine."""
        return read_manifest(self.folder) or {}

    @property
    def metrics(self) -> pd.DataFrame:
        """One row per training step, indexed by ``step``: reward, loss, lengths, entropies (nats), KL (nats) ..."""
        return self._steps("metrics.jsonl")

    @property
    def timings(self) -> pd.DataFrame:
        """One row per training step: seconds by part of the step."""
        return self._steps("timings.jsonl")

    @property
    def rollouts(self) -> pd.DataFrame:
        """One row per response sampled in training, with its verdict, token ids and log-probs (nats).

        ``reward`` is ``score`` and ``correct`` is ``passed``, by their earlier names.
        """
        import pandas as pd

        return pd.DataFrame(list(self._rollouts()))

    @property
    def results(self) -> pd.DataFrame:
        """One row per sample of the final evaluation: problem, score, passed, reason, stop, tokens, answer.

        ``correct`` is ``passed``, by its earlier name.
        """
        import pandas as pd

        return pd.DataFrame([row for result in self.outcomes for row in rows_of_result(result)])

    @cached_property
    def outcomes(self) -> tuple[Result, ...]:
        """The final evaluation: one :class:`~archer.types.Result` per benchmark."""
        return tuple(read_result(path) for path in sorted((self.folder / "results").glob("*.json")))

    def _steps(self, name: str) -> pd.DataFrame:
        import pandas as pd

        lines = read_lines(self.folder / name)
        return pd.DataFrame(lines).set_index("step") if lines else pd.DataFrame(index=pd.Index([], name="step"))

    def _rollouts(self) -> Iterator[dict[str, Json]]:
        for path in sorted((self.folder / "rollouts").glob("[0-9]*.jsonl.gz")):
            for line in gzip.decompress(path.read_bytes()).decode().splitlines():
                yield {"step": int(path.name.split(".")[0]), **both_names(json.loads(line))}


def both_names(row: dict[str, Json]) -> dict[str, Json]:
    """Return a rollout's row, of any version, with its verdict under the names of now and of before."""
    score, passed = row.get("score", row.get("reward")), row.get("passed", row.get("correct"))
    return {**row, "score": score, "passed": passed, "reward": score, "correct": passed}


def rows_of_result(result: Result) -> Iterator[dict[str, Json]]:
    """Yield a result's samples as plain rows."""
    for number, problem in enumerate(result.problems):
        for sample in range(result.samples):
            yield {
                "label": result.label, "seed": result.seed, "benchmark": result.benchmark, "problem": problem,
                "sample": sample, "score": result.scores[number][sample], "passed": result.passed[number][sample],
                "correct": result.passed[number][sample], "reason": result.reasons[number][sample],
                "stop": result.stops[number][sample], "tokens": result.tokens[number][sample],
                "answer": result.answers[number][sample] if result.answers else "",
            }  # fmt: skip


def load_run(folder: str | Path) -> LoadedRun:
    """Return the tables of a run folder. Raises RunFolderError if it has no manifest."""
    path = Path(folder)
    if not (path / "manifest.json").is_file():
        raise RunFolderError(f"{path}: no manifest.json there; give the folder of an `archer train` or `archer eval`")
    return LoadedRun(path)
