"""The report of an evaluation by lm-eval: its numbers, and every outcome to compute them from again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archer.errors import DataError
from archer.system import installed, provenance, write_aside
from archer.types import Json

if TYPE_CHECKING:
    from archer.evaluation.lm_eval.lm import ArcherLM

WHOLE = ("results", "group_subtasks", "versions", "n-shot", "n-samples", "higher_is_better", "configs")


def report_of(lm: ArcherLM, results: Mapping[str, Any], chat: bool) -> dict[str, Json]:
    """Return lm-eval's results with every document's outcome, why texts ended, and what prompts were cut."""
    template = lm.tokenizer.chat_template if chat else None
    stopped = {name: stops(lm, name) for name in results["samples"]}
    return {
        **{key: results[key] for key in WHOLE}, "groups": results.get("groups", {}),
        "task_hashes": {name: task_hash(rows) for name, rows in results["samples"].items()},
        "chat_template_sha256": template and hashlib.sha256(template.encode()).hexdigest(),
        "chat_template_switches": dict(lm.parts.switches) if chat else {}, "context": lm.max_length,
        "truncated_prompts": dict(lm.parts.window.cut), "sampling_changes": dict(lm.parts.changes),
        "stops": {name: shares for name, shares in stopped.items() if shares},
        "samples": {name: [outcome(lm, name, row) for row in rows] for name, rows in results["samples"].items()},
    }  # fmt: skip


def table(reports: Mapping[str, Mapping[str, Json]]) -> str:
    """Return lm-eval's tables, each with what it does not show: texts and prompts that were cut, limits."""
    from lm_eval.utils import make_table

    parts = []
    for name, report in reports.items():
        notes = [f"{share:.0%} of {task}'s texts were cut at max_gen_toks" for task, shares in report["stops"].items()
                 if (share := shares.get("length", 0.0))]  # fmt: skip
        notes += [note for benchmark in report["benchmarks"].values() for note in benchmark["notes"]]
        if report["truncated_prompts"]:
            notes.append(f"{len(report['truncated_prompts'])} prompts lost their beginning")
        if report["chat_template_sha256"] is None:
            notes.append("prompts without a chat template")
        if report["limit"]:
            notes.append(f"the first {report['limit']} documents only: not the task's number")
        tables = make_table(report) + ("\n" + make_table(report, "groups") if report["groups"] else "")
        parts.append(f"{tables}\n{name}: {'; '.join(notes) or 'all documents, every text complete'}\n")
    return "\n".join(parts)


def stops(lm: ArcherLM, task: str) -> dict[str, float]:
    """Return the shares of the reasons why a task's sampled texts ended; ``length`` means that a text was cut."""
    reasons = [
        response.stop for (name, _), samples in lm.answered.items() if name == task for response in samples.values()
    ]
    return {stop: reasons.count(stop) / len(reasons) for stop in sorted(set(reasons))}


def outcome(lm: ArcherLM, task: str, row: Mapping[str, Any]) -> dict[str, Json]:
    """Return the record of a document: everything its metrics are computed from, and hashes of the rest."""
    hashes = {key: row[key] for key in ("doc_hash", "prompt_hash", "target_hash")}
    metrics = {name: row[name] for name in row["metrics"]}
    answered = lm.answered.get((task, row["doc_id"]), {})
    texts = [{"stop": answered[sample].stop, "tokens": answered[sample].tokens} for sample in sorted(answered)]
    return {"doc_id": row["doc_id"], **hashes, "filter": row["filter"], "target": row["target"], "resps": row["resps"],
            "filtered_resps": row["filtered_resps"], "texts": texts, "metrics": metrics}  # fmt: skip


def task_hash(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return lm-eval's own digest of a task's documents, prompts and targets."""
    joined = "".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows)
    return hashlib.sha256(joined.encode()).hexdigest()


def origin() -> dict[str, Json]:
    """Return the provenance (commit, versions, machine) with the versions of lm-eval and datasets."""
    own = provenance()
    return {**own, "versions": {**own["versions"], "lm-eval": installed("lm-eval"), "datasets": installed("datasets")}}


def write(path: Path, report: Mapping[str, Json]) -> None:
    """Write a report as JSON. Raises DataError for a value that JSON cannot hold."""
    write_aside(path, json.dumps(report, default=plain, ensure_ascii=False) + "\n")


def plain(value: object) -> Json:
    """Return a value for JSON: numpy's numbers as Python's, functions by name. Raises DataError for other types."""
    if hasattr(value, "item"):
        return value.item()
    if callable(value):
        return getattr(value, "__qualname__", str(value))
    raise DataError(f"a task of lm-eval gave {type(value).__name__} {value!r:.80}, which JSON cannot hold")
