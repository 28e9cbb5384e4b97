"""Archer's benchmarks as lm-eval tasks: ``archer benchmarks export`` writes them into ``benchmarks/lm_eval/``.

Each task's YAML holds the sampling of its benchmark and includes ``_archer_yaml``, which holds the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from archer.evaluation.benchmark import Benchmark, benchmark_names, read_benchmark, read_suites
from archer.evaluation.named_metrics import find_metrics
from archer.system import in_checkout, suite
from archer.types import DEFAULT_METRICS, Sampling

WRITTEN = "# Written by `archer benchmarks export`."
HEAD = WRITTEN + " Do not edit: change benchmarks/{source} and export again.\n"


def folder() -> Path:
    """Return the folder of the exported tasks, to be given to lm-eval as ``--include_path``."""
    return suite("benchmarks") / "lm_eval"


def export() -> list[Path]:
    """Write every task and group, delete those whose benchmark is gone, and return the changed files.

    Files that this function did not write stay. Raises DataError in an installed package.
    """
    wanted, target = files(), in_checkout(folder(), "tasks are exported from the benchmarks of")
    stale = [path for path in target.glob("*.yaml") if path.name not in wanted and read(path).startswith(WRITTEN)]
    for path in stale:
        path.unlink()
    changed = [name for name, text in wanted.items() if read(folder() / name) != text]
    for name in changed:
        (folder() / name).write_text(wanted[name], encoding="utf-8")
    return [*stale, *(folder() / name for name in changed)]


def read(path: Path) -> str:
    """Return a file's text; empty if there is no file."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def files() -> dict[str, str]:
    """Return the text of every task and group by file name."""
    tasks = {f"{task_name(name)}.yaml": dump(task(read_benchmark(name)), f"{name.replace('-', '_')}.yaml")
             for name in benchmark_names()}  # fmt: skip
    groups = {f"{task_name(name)}.yaml": dump(group(name, members), "suites.yaml")
              for name, members in read_suites().items()}  # fmt: skip
    return tasks | groups


def task_name(name: str) -> str:
    """Return lm-eval's name for a benchmark or suite: ``lcb-v5`` is ``archer_lcb_v5``."""
    return f"archer_{name.replace('-', '_')}"


def task(benchmark: Benchmark) -> dict[str, Any]:
    """Return the YAML values of a benchmark's task."""
    return {
        "include": "_archer_yaml",
        "task": task_name(benchmark.name),
        "task_alias": f"{benchmark.name} (k={benchmark.samples})",
        "dataset_kwargs": {"benchmark": benchmark.name},
        "repeats": benchmark.samples,
        "generation_kwargs": kwargs(benchmark.sampling),
        **metric_list(benchmark),
        # `chat`: `archer lm-eval` then asks through the chat template, as `archer eval` itself does.
        "metadata": {"version": 1, "k": benchmark.samples, "chat": True},
    }


def metric_list(benchmark: Benchmark) -> dict[str, Any]:
    """Return the ``metric_list`` of a benchmark with metrics of its own; the others have that of ``_archer_yaml``."""
    if benchmark.metrics == DEFAULT_METRICS:
        return {}
    higher = {metric.title("k"): metric.better == "higher" for metric in find_metrics(benchmark.metrics)}
    listed = {**higher, "distinct@k": True, "killed@k": False}
    return {
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": better} for name, better in listed.items()
        ]
    }


def kwargs(sampling: Sampling) -> dict[str, Any]:
    """Return ``generation_kwargs`` with every value given, because backends differ in their defaults.

    transformers would sample from the 50 likeliest tokens with the model's own repetition penalty; lm-eval would end
    every text at its first empty line.
    """
    length = {"max_gen_toks": sampling.max_tokens, "until": []}
    if sampling.temperature == 0:
        return {"do_sample": False, "repetition_penalty": 1.0, **length}
    return {
        "do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k,
        "repetition_penalty": 1.0, **length,
    }  # fmt: skip


def group(name: str, members: tuple[str, ...]) -> dict[str, Any]:
    """Return the YAML values of a suite's group; its score is the unweighted mean of its tasks, as in papers."""
    first, *others = [find_metrics(read_benchmark(member).metrics) for member in members]
    shared = [metric.title("k") for metric in first if all(metric in metrics for metrics in others)]
    means = [
        {"metric": metric, "filter_list": ["graded"], "aggregation": "mean", "weight_by_size": False}
        for metric in shared
    ]
    return {
        "group": task_name(name),
        "group_alias": name,
        "task": [task_name(member) for member in members],
        "aggregate_metric_list": means,
        "metadata": {"version": 1},
    }


def dump(values: dict[str, Any], source: str) -> str:
    """Return the values as YAML below the head that names their ``source``."""
    return HEAD.format(source=source) + yaml.safe_dump(values, sort_keys=False, width=120)
