"""Our benchmarks as lm-eval tasks: what ``archer benchmarks export`` writes into ``benchmarks/lm_eval/``.

A task's YAML says how its benchmark is sampled; the rest is in ``_archer_yaml``, which they include.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from archer.evaluation.benchmark import Benchmark, benchmark_names, read_benchmark, read_suites
from archer.system import in_checkout, suite
from archer.types import Sampling

WRITTEN = "# Written by `archer benchmarks export`."
HEAD = WRITTEN + " Do not edit: change benchmarks/{source} and export again.\n"


def folder() -> Path:
    """Return what lm-eval is given as ``--include_path``."""
    return suite("benchmarks") / "lm_eval"


def export() -> list[Path]:
    """Write every task and group, remove those whose benchmark is gone; return the files that changed.

    Files that were not written here stay. Raises DataError in an installed package.
    """
    wanted, place = files(), in_checkout(folder(), "tasks are exported from the benchmarks of")
    stale = [path for path in place.glob("*.yaml") if path.name not in wanted and read(path).startswith(WRITTEN)]
    for path in stale:
        path.unlink()
    changed = [name for name, text in wanted.items() if read(folder() / name) != text]
    for name in changed:
        (folder() / name).write_text(wanted[name], encoding="utf-8")
    return [*stale, *(folder() / name for name in changed)]


def read(path: Path) -> str:
    """Return a file's text, empty where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def files() -> dict[str, str]:
    """Return what the files hold, by their names."""
    tasks = {f"{task_name(name)}.yaml": dump(task(read_benchmark(name)), f"{name.replace('-', '_')}.yaml")
             for name in benchmark_names()}  # fmt: skip
    groups = {f"{task_name(name)}.yaml": dump(group(name, members), "suites.yaml")
              for name, members in read_suites().items()}  # fmt: skip
    return tasks | groups


def task_name(name: str) -> str:
    """Return lm-eval's name for a benchmark or suite: ``lcb-v5`` is ``archer_lcb_v5``."""
    return f"archer_{name.replace('-', '_')}"


def task(benchmark: Benchmark) -> dict[str, Any]:
    """Return a benchmark's task."""
    return {
        "include": "_archer_yaml",
        "task": task_name(benchmark.name),
        "task_alias": f"{benchmark.name} (k={benchmark.samples})",
        "dataset_kwargs": {"benchmark": benchmark.name},
        "repeats": benchmark.samples,
        "generation_kwargs": kwargs(benchmark.sampling),
        # `chat`: `archer lm-eval` then asks through the chat template, as `archer eval` itself does.
        "metadata": {"version": 1, "k": benchmark.samples, "chat": True},
    }


def kwargs(sampling: Sampling) -> dict[str, Any]:
    """Return ``generation_kwargs`` that say everything: what is left out, backends fill in as they like.

    transformers would take the 50 likeliest tokens and a model's own repetition penalty, lm-eval would end every
    text at its first empty line.
    """
    length = {"max_gen_toks": sampling.max_tokens, "until": []}
    if sampling.temperature == 0:
        return {"do_sample": False, "repetition_penalty": 1.0, **length}
    return {
        "do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k,
        "repetition_penalty": 1.0, **length,
    }  # fmt: skip


def group(name: str, members: tuple[str, ...]) -> dict[str, Any]:
    """Return a suite's group; its score is the plain mean of its tasks', as papers average benchmarks."""
    means = [
        {"metric": metric, "filter_list": ["graded"], "aggregation": "mean", "weight_by_size": False}
        for metric in ("avg@k", "pass@k")
    ]
    return {
        "group": task_name(name),
        "group_alias": name,
        "task": [task_name(member) for member in members],
        "aggregate_metric_list": means,
        "metadata": {"version": 1},
    }


def dump(values: dict[str, Any], source: str) -> str:
    """Return a file's text."""
    return HEAD.format(source=source) + yaml.safe_dump(values, sort_keys=False, width=120)
