"""A comparison's folder made by hand, for the tests of tables and pages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from archer.runs.results import write_result
from archer.types import Result, Sampling

# Right samples of 4, for each of 4 problems, by row, benchmark and seed.
RIGHT: Mapping[str, Mapping[str, Sequence[Sequence[int]]]] = {
    "base": {"lab-sums": [[0, 1, 1, 2]], "lab-code": [[2, 2, 2, 2]]},
    "grpo": {"lab-sums": [[2, 2, 2, 3], [2, 3, 2, 2]], "lab-code": [[2, 2, 1, 3], [2, 2, 3, 1]]},
    "dapo": {"lab-sums": [[2, 3, 2, 2], [2, 2, 2, 3]], "lab-code": [[2, 1, 2, 3], [2, 3, 2, 1]]},
    "archer": {"lab-sums": [[4, 4, 4, 4], [4, 4, 4, 3]], "lab-code": [[0, 0, 0, 2], [0, 1, 0, 1]]},
}
KNOWLEDGE = {"grpo": False, "dapo": False, "archer": True}  # who trains with a reference model


def result(row: str, seed: int, benchmark: str, right: Sequence[int]) -> Result:
    """Return a result of 4 samples a problem; the last wrong sample of a problem has no answer."""
    outcomes = tuple(tuple(sample < count for sample in range(4)) for count in right)
    reasons = tuple(
        (*tuple("right" if count > sample else "wrong" for sample in range(3)), last(count)) for count in right
    )
    return Result(
        label=row, seed=seed, step=0 if row == "base" else 3, benchmark=benchmark, sha256="a" * 64,
        sampling=Sampling(max_tokens=64), problems=tuple(f"{benchmark}-{n}" for n in range(len(right))),
        passed=outcomes, reasons=reasons, stops=tuple(("end", "end", "end", "length") for _ in right),
        tokens=tuple((10, 20, 30, 64) for _ in right), seconds=2.5, provenance={},
    )  # fmt: skip


def last(count: int) -> str:
    """Return the reason of a problem's last sample."""
    return "right" if count == 4 else "no_answer"


def folder_of(out: Path, row: str, seed: int) -> Path:
    """Return where a run lies."""
    return out / row if row == "base" else out / row / f"seed-{seed}"


def write_comparison(out: Path, steps: int = 3, seeds: int = 2) -> Path:
    """Write the folder: a manifest, results of all rows, journals of the trained ones."""
    evaluate = {"benchmarks": ["lab-sums", "lab-code"], "curve_problems": 2}
    manifest = {
        "recipe": {"name": "fake <lab>", "steps": steps, "evaluate": evaluate},
        "recipe_digest": "0123456789abcdef", "algorithms": [*KNOWLEDGE], "seeds": list(range(seeds)),
        "archer": "0.1.0", "commit": "abc123def456", "python": "3.12.1", "versions": {"torch": "2.9.0"},
        "machine": {"processor": "A <processor>", "cores": 2, "system": "Linux"},
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").write_text(json.dumps(manifest))
    for row, by_benchmark in RIGHT.items():
        for benchmark, by_seed in by_benchmark.items():
            for seed, right in enumerate(by_seed[:seeds]):
                place = folder_of(out, row, seed) / "results" / f"{benchmark}.json"
                write_result(result(row, seed, benchmark, right), place)
        for seed in range(seeds if row != "base" else 0):
            write_journal(folder_of(out, row, seed), row, seed, steps)
    return out


def write_journal(folder: Path, row: str, seed: int, steps: int) -> None:
    """Write metrics and timings; every second step has a curve point."""
    for step in range(steps):
        reward = 0.2 + 0.1 * step + 0.01 * seed
        metrics: dict[str, float] = {
            "step": step, "reward": reward, "reward/lab-sums": reward, "reward/lab-code": reward / 2,
            "length": 30.0 - step, "rollout_entropy": 0.9 - 0.1 * step, "clip_reasoning": 0.01,
            "clip_knowledge": 0.02, "signal": 0.5, "responses": 64.0,
        }  # fmt: skip
        if KNOWLEDGE[row]:
            metrics |= {"kl_reasoning": 0.01 * step, "kl_knowledge": 0.001 * step}
        if step % 2:
            metrics |= {"lab-sums/avg": 0.3 + 0.1 * step, "lab-code/avg": 0.5}
        timings = {
            "step": step,
            "generate": 2.0,
            "reward": 0.5,
            "update": 1.0,
            "evaluate": 9.0,
            "write": 0.25,
        }
        for name, line in (("metrics", metrics), ("timings", timings)):
            with (folder / f"{name}.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")


def rewrite(out: Path, row: str, seed: int, benchmark: str, **changes: object) -> None:
    """Change one result of a folder."""
    place = folder_of(out, row, seed) / "results" / f"{benchmark}.json"
    right = RIGHT[row][benchmark][seed]
    write_result(replace(result(row, seed, benchmark, right), **changes), place)  # type: ignore[arg-type]
