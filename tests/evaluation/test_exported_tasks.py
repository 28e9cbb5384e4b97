"""Our benchmarks in stock lm-eval: all K samples graded in one batch, our numbers, and no score when ours broke."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from lm_eval.tasks import TaskManager

from archer.errors import DataError
from archer.evaluation.benchmark import benchmark_names, read_benchmark, read_suites
from archer.evaluation.estimates import avg_at_k, pass_at_k
from archer.evaluation.lm_eval.export import files, folder, kwargs, metric_list, task_name
from archer.evaluation.lm_eval.tasks import documents, graded, scored
from archer.evaluation.loaded import load_benchmark
from archer.models.loading import model_path
from archer.rewards.grading import Grader
from archer.types import Rollout, Sampling


def lm_eval(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run stock lm-eval on the lab model."""
    command = [
        sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model_path('lab')},dtype=float32",
        "--include_path", str(folder()), "--apply_chat_template", "--device", "cpu", "--batch_size", "64", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_what_is_committed_is_what_the_benchmarks_say() -> None:
    found = {path.name: path.read_text() for path in folder().glob("*.yaml")}
    wanted = files()
    assert sorted(found) == sorted(wanted), "run `archer benchmarks export`"
    assert [name for name in wanted if found[name] != wanted[name]] == [], "run `archer benchmarks export`"


def test_lm_eval_lists_every_benchmark_and_suite() -> None:
    manager = TaskManager(include_path=str(folder()), include_defaults=False)
    assert manager.all_subtasks == sorted(task_name(name) for name in benchmark_names())
    assert manager.all_groups == sorted(task_name(name) for name in read_suites())


def test_a_task_says_all_that_backends_would_fill_in_themselves() -> None:
    assert kwargs(Sampling(0.8, 0.95, 0, 100)) == {
        "do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 0, "repetition_penalty": 1.0,
        "max_gen_toks": 100, "until": [],
    }  # fmt: skip
    assert kwargs(Sampling(0.0, max_tokens=100))["do_sample"] is False
    aime = yaml.safe_load((folder() / "archer_aime24.yaml").read_text())
    assert aime["repeats"] == aime["metadata"]["k"] == read_benchmark("aime24").samples


def test_documents_are_the_problems_without_the_programs_tests() -> None:
    rows = documents("lab-code", version=1, pretrained="x")["test"]
    exam = load_benchmark("lab-code")
    assert rows["id"] == [problem.id for problem in exam.problems]
    assert rows["prompt"] == [problem.prompt for problem in exam.problems]
    assert set(rows["target"]) == {""}
    assert documents("lab-arithmetic")["test"]["target"][0] == load_benchmark("lab-arithmetic").problems[0].gold


def test_all_samples_are_graded_and_averaged(shared: Path) -> None:
    rows = documents("aime24", data={"aime24": str(shared / "data" / "math" / "aime24.jsonl")})["test"]
    docs = [rows[0], rows[1]]
    right = [f"so \\boxed{{{doc['target']}}}" for doc in docs]
    verdicts = graded([[right[0], "\\boxed{-1}", right[0], "none"], ["a", "b", "c", "d"]], docs)
    assert [[one["correct"] for one in row] for row in verdicts] == [[True, False, True, False], [False] * 4]
    assert scored(docs[0], [verdicts[0]]) == {"avg@k": 0.5, "pass@k": 1.0, "distinct@k": 0.75, "killed@k": 0.0}
    assert scored(docs[1], [verdicts[1]]) == {"avg@k": 0.0, "pass@k": 0.0, "distinct@k": 1.0, "killed@k": 0.0}


def test_a_killed_answer_is_counted_apart() -> None:
    same = {"correct": False, "score": 0.0, "answer": "", "new": True}
    verdicts = [{**same, "reason": reason} for reason in ("timeout", "wrong", "memory", "wrong")]
    assert scored({"id": "x", "archer_benchmark": "lab-code"}, [verdicts])["killed@k"] == 0.5


def test_a_score_that_is_no_number_ends_lm_eval() -> None:
    same = {"correct": False, "answer": "", "new": True, "reason": "partial"}
    with pytest.raises(DataError, match="x, sample 1: score nan is no finite number"):
        scored({"id": "x", "archer_benchmark": "lab-code"}, [[{**same, "score": score} for score in (0.5, math.nan)]])


def test_a_task_lists_the_metrics_that_its_benchmark_names() -> None:
    assert metric_list(read_benchmark("aime24")) == {}
    found = metric_list(replace(read_benchmark("aime24"), metrics=("worst@2", "std")))["metric_list"]
    assert [(one["metric"], one["higher_is_better"]) for one in found] == [
        ("avg@k", True), ("worst@2", True), ("std@k", False), ("distinct@k", True), ("killed@k", False),
    ]  # fmt: skip


def test_partial_scores_are_averaged_and_only_passes_count_as_solved() -> None:
    same = {"answer": "", "new": True, "reason": "partial"}
    verdicts = [{**same, "correct": score == 1.0, "score": score} for score in (0.25, 0.5)]
    found = scored({"id": "x", "archer_benchmark": "lab-code"}, [verdicts])
    assert found == {"avg@k": 0.375, "pass@k": 0.0, "distinct@k": 1.0, "killed@k": 0.0}


def test_texts_in_place_of_verdicts_are_refused() -> None:
    with pytest.raises(DataError, match="x: expected verdicts of the filter `graded`, found 'text'"):
        scored({"id": "x"}, ["text"])


def test_a_backend_that_samples_once_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    rows = documents("lab-arithmetic")["test"]
    with caplog.at_level(logging.WARNING):
        graded([["7", "7"], ["8", "8"]], [rows[0], rows[1]])
    assert "every document's 2 samples are the same text" in caplog.text
    caplog.clear()
    graded([["7", "7"], ["8", "9"]], [rows[0], rows[1]])
    assert caplog.text == ""


def test_programs_run_in_the_sandbox(isolating: object) -> None:
    rows = documents("lab-code", sandbox=isolating.executor)["test"]  # type: ignore[attr-defined]
    verdicts = graded([["```python\nreturn 1\n```", "no program"]], [rows[0]])
    assert [one["correct"] for one in verdicts[0]] == [False, False]
    assert verdicts[0][1]["reason"] != verdicts[0][0]["reason"]


def test_stock_lm_eval_gives_our_numbers_on_real_aime24(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "math" / "aime24.jsonl"
    tasks = "archer_aime24,archer_lab_arithmetic"
    done = lm_eval(
        ["--tasks", tasks, "--gen_kwargs", "max_gen_toks=40", "--limit", "4", "--output_path", str(tmp_path),
         "--log_samples"], ARCHER_DATA=f"aime24={data}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = tmp_path.rglob("results_*.json")
    results = json.loads(found.read_text())["results"]
    exams = {
        "archer_aime24": load_benchmark("aime24", data={"aime24": data}),
        "archer_lab_arithmetic": load_benchmark("lab-arithmetic"),
    }
    for name, exam in exams.items():
        (log,) = tmp_path.rglob(f"samples_{name}_*.jsonl")
        rows = sorted((json.loads(line) for line in log.read_text().splitlines()), key=lambda row: row["doc_id"])
        texts = [row["resps"][0] for row in rows]
        count = exam.benchmark.samples
        assert [len(one) for one in texts] == [count] * 4
        assert len({text for one in texts for text in one}) > 8  # each repeat was sampled by itself
        rollouts = [
            Rollout.of_text(problem, text, sample=sample)
            for problem, row in zip(exam.problems, texts, strict=False)
            for sample, text in enumerate(row)
        ]
        with Grader(1, 5.0) as grader:
            verdicts = grader.grade(rollouts)
        outcomes = np.array([verdict.passed for verdict in verdicts]).reshape(4, count)
        for metric, value in (("avg@k", avg_at_k(outcomes)), ("pass@k", pass_at_k(outcomes, count))):
            assert results[name][f"{metric},graded"] == pytest.approx(value.mean())
            assert results[name][f"{metric}_stderr,graded"] == pytest.approx(value.std(ddof=1) / 2)
    assert 0 < results["archer_lab_arithmetic"]["avg@k,graded"] < 1


def test_a_sandbox_that_dies_ends_lm_eval(tmp_path: Path) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    done = lm_eval(
        ["--tasks", "archer_lab_code", "--gen_kwargs", "max_gen_toks=16", "--limit", "1", "--output_path",
         str(tmp_path / "out")], PATH=f"{tmp_path}:{os.environ['PATH']}",
    )  # fmt: skip
    assert done.returncode == 1
    assert "SandboxError: sandbox: bubblewrap" in done.stderr
    assert not (tmp_path / "out").exists()
