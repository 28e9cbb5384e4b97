"""What the exported tasks in ``benchmarks/lm_eval/`` call inside lm-eval: our problems, and our verdicts.

An error of ours is raised through lm-eval and ends it: it is never a score.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from datasets import Dataset

from archer.errors import DataError
from archer.evaluation.loaded import LoadedBenchmark, load_benchmark, read_data
from archer.recipe.config import typed
from archer.recipe.sections import RewardSection
from archer.rewards.opening import open_grader
from archer.types import Json, Rollout

Doc = Mapping[str, Any]
KILLED = ("timeout", "memory")  # reasons that tell of the grader's limits, not of the answer alone


@cache
def benchmark_with_problems(benchmark: str, data: str) -> LoadedBenchmark:
    """Return a benchmark with its problems, read once a process; ``data`` is the path of a copy, or empty."""
    return load_benchmark(benchmark, data={benchmark: Path(data)} if data else None)


def documents(
    benchmark: str, sandbox: str = RewardSection.sandbox, data: Mapping[str, str] | None = None, **_: Json
) -> dict[str, Dataset]:
    """Return the problems as lm-eval's documents, checked against what the benchmark pins; golds stay here.

    ``sandbox`` names the executor that programs are to run in, ``data`` copies of data sets by benchmark:
    ``--metadata '{"sandbox": "docker", "data": {"aime24": "aime24.jsonl"}}'``, or ``ARCHER_DATA=aime24=aime24.jsonl``
    in the environment (several with commas). lm-eval passes more keywords, which are for other tasks.
    Raises DataError.
    """
    copies = read_data([one for one in os.environ.get("ARCHER_DATA", "").split(",") if one])
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
    """Return the name and checksum of a document's benchmark, with what about it could not be checked."""
    if "archer_benchmark" not in doc:
        return None
    exam = benchmark_with_problems(doc["archer_benchmark"], doc["archer_data"])
    return {"name": exam.benchmark.name, "sha256": exam.benchmark.sha256, "notes": list(exam.notes)}


def graded(resps: Sequence[Sequence[str]], docs: Sequence[Doc]) -> list[list[dict[str, Json]]]:
    """Judge all samples of all documents in one batch; return K verdicts a document.

    ``new`` says whether a text is the first of its kind among the K. Raises SandboxError and GraderError when
    ours broke and MissingError where programs have no sandbox.
    """
    exam = benchmark_with_problems(docs[0]["archer_benchmark"], docs[0]["archer_data"])
    problems = {problem.id: problem for problem in exam.problems}
    rollouts = [
        Rollout(problems[doc["id"]], sample, (), (), (), (), text, "end")
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
            {"correct": one.correct, "reason": one.reason, "answer": one.answer, "new": text not in texts[:sample]}
            for sample, text in enumerate(texts)
            for one in [next(verdicts)]
        ]
        for texts in resps
    ]


def warn_of_copies(resps: Sequence[Sequence[str]]) -> None:
    """Say loudly when every document's samples are one text: a backend that sends one seed K times does that."""
    if all(len(texts) > 1 and len(set(texts)) == 1 for texts in resps):
        logging.getLogger(__name__).warning(
            "every document's %d samples are the same text: this backend does not sample each repeat by itself "
            "(lm-eval's API models send one seed with all of them); avg@k and pass@k are of one sample",
            len(resps[0]),
        )


def scored(doc: Doc, results: Sequence[Sequence[Mapping[str, Json]]]) -> dict[str, float]:
    """Return avg@k, pass@k, the share of different texts and the share of answers that grading had to kill."""
    verdicts = results[0]
    if isinstance(verdicts, str) or not all("correct" in one for one in verdicts):
        raise DataError(f"{doc['id']}: expected verdicts of the filter `graded`, found {verdicts!r:.80}")
    count = len(verdicts)
    return {
        "avg@k": sum(one["correct"] for one in verdicts) / count,
        "pass@k": float(any(one["correct"] for one in verdicts)),
        "distinct@k": sum(one["new"] for one in verdicts) / count,
        "killed@k": sum(one["reason"] in KILLED for one in verdicts) / count,
    }
