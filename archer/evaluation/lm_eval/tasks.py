"""The functions that the exported tasks in ``benchmarks/lm_eval/`` call inside lm-eval: Archer's problems and verdicts.

An ArcherError passes through lm-eval and ends it: it is never a score.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from archer.errors import DataError
from archer.evaluation.benchmark import read_benchmark
from archer.evaluation.loaded import LoadedBenchmark, load_benchmark, read_data
from archer.evaluation.named_metrics import find_metrics
from archer.recipe.config import typed
from archer.recipe.sections import RewardSection
from archer.rewards.opening import open_grader
from archer.types import Json, Rollout

Doc = Mapping[str, Any]
KILLED = ("timeout", "memory")  # reasons that depend on the grader's limits, not only on the answer


@cache
def benchmark_with_problems(benchmark: str, data: str) -> LoadedBenchmark:
    """Return a benchmark with its problems, read once per process; ``data`` is the path of a copy, or empty."""
    return load_benchmark(benchmark, data={benchmark: Path(data)} if data else None)


def documents(
    benchmark: str, sandbox: str = RewardSection.sandbox, data: Mapping[str, str] | None = None, **_: Json
) -> dict[str, Dataset]:
    """Return the problems as lm-eval's documents, checked against the benchmark's pins; only text golds are in them.

    ``sandbox`` names the executor of programs, ``data`` gives copies of data sets by benchmark: ``--metadata
    '{"sandbox": "docker", "data": {"aime24": "aime24.jsonl"}}'``, or ``ARCHER_DATA=aime24=aime24.jsonl`` in the
    environment (several with commas). Other keywords that lm-eval passes are ignored. Raises DataError.
    """
    copies = read_data([option for option in os.environ.get("ARCHER_DATA", "").split(",") if option])
    path = str((data or {}).get(benchmark) or copies.get(benchmark, ""))
    rows = [
        {
            "archer_benchmark": benchmark, "archer_data": path, "archer_sandbox": sandbox, "id": problem.id,
            "prompt": problem.prompt, "system": problem.system,
            "target": problem.gold if isinstance(problem.gold, str) else "",
        }
        for problem in benchmark_with_problems(benchmark, path).problems
    ]  # fmt: skip
    return {"test": Dataset.from_list(rows)}


def benchmark_of(doc: Doc) -> dict[str, Json] | None:
    """Return the name, checksum and notes of a document's benchmark; None for a document of another task."""
    if "archer_benchmark" not in doc:
        return None
    loaded = benchmark_with_problems(doc["archer_benchmark"], doc["archer_data"])
    return {"name": loaded.benchmark.name, "sha256": loaded.benchmark.sha256, "notes": list(loaded.notes)}


def graded(resps: Sequence[Sequence[str]], docs: Sequence[Doc]) -> list[list[dict[str, Json]]]:
    """Judge all samples of all documents in one batch; return K verdicts per document.

    ``new`` is true for the first of equal texts among the K. Raises SandboxError and GraderError if judging itself
    fails, and MissingError if programs have no sandbox.
    """
    loaded = benchmark_with_problems(docs[0]["archer_benchmark"], docs[0]["archer_data"])
    problems = {problem.id: problem for problem in loaded.problems}
    rollouts = [
        Rollout.of_text(problems[doc["id"]], text, sample=sample)
        for doc, texts in zip(docs, resps, strict=True)
        for sample, text in enumerate(texts)
    ]
    with ExitStack() as stack:
        section = typed(RewardSection, {"sandbox": docs[0]["archer_sandbox"]}, "--metadata")
        grader = open_grader(section, {problem.reward for problem in problems.values()}, False, stack)
        verdicts = iter(grader.grade(rollouts))
    warn_of_copies(resps)
    return [
        [
            {
                "correct": verdict.passed,
                "score": verdict.score,
                "reason": verdict.reason,
                "answer": verdict.answer,
                "new": text not in texts[:sample],
            }
            for sample, text in enumerate(texts)
            for verdict in [next(verdicts)]
        ]
        for texts in resps
    ]


def warn_of_copies(resps: Sequence[Sequence[str]]) -> None:
    """Warn if every document's samples are one text, as from a backend that uses one seed for all K."""
    if all(len(texts) > 1 and len(set(texts)) == 1 for texts in resps):
        logging.getLogger(__name__).warning(
            "every document's %d samples are the same text: this backend does not sample each repeat by itself "
            "(lm-eval's API models send one seed with all of them); avg@k and pass@k are of one sample",
            len(resps[0]),
        )


def scored(doc: Doc, results: Sequence[Sequence[Mapping[str, Json]]]) -> dict[str, float]:
    """Return the benchmark's metrics, the share of distinct texts, and that of answers whose grading was killed."""
    verdicts = results[0]
    if isinstance(verdicts, str) or not all("correct" in verdict for verdict in verdicts):
        raise DataError(f"{doc['id']}: expected verdicts of the filter `graded`, found {verdicts!r:.80}")
    count = len(verdicts)
    scores_PK = np.array([[float(verdict["score"]) for verdict in verdicts]])
    if not np.isfinite(scores_PK).all():
        sample = int(np.argmin(np.isfinite(scores_PK[0])))
        raise DataError(f"{doc['id']}, sample {sample}: score {scores_PK[0, sample]} is no finite number")
    passed_PK = np.array([[bool(verdict["correct"]) for verdict in verdicts]])
    answers = [[str(verdict["answer"]) for verdict in verdicts]]
    metrics = find_metrics(read_benchmark(doc["archer_benchmark"]).metrics)
    return {
        **{one.title("k"): float(one.of_samples(scores_PK, passed_PK, answers, doc["id"])[0]) for one in metrics},
        "distinct@k": sum(verdict["new"] for verdict in verdicts) / count,
        "killed@k": sum(verdict["reason"] in KILLED for verdict in verdicts) / count,
    }
