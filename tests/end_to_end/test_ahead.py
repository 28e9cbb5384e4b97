"""Rollouts one step ahead: stale by one step and said so, and bitwise the same run when it is killed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from helpers.kills import command, content, killed_after

from archer.runs.folder import read_lines

RECIPE = """
name: ahead
steps: 4
model: {{path: {model}}}
data: [{{name: lab-arithmetic}}]
algorithms: {{archer: {{}}}}
rollout: {{prompts: 4, samples_per_prompt: 4, max_tokens: 24, prefetch: 1, correction: {{kind: truncate, stop: 100}}}}
update: {{lr: 1.0e-3, warmup: 2, mini_batch: 2}}
"""


def test_rollouts_ahead_are_one_step_old_and_resume_bitwise(tmp_path: Path, tiny: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=tiny))
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    subprocess.run(command(recipe, unbroken, "archer"), check=True)
    for steps, delay in ((1, 0.05), (2, 0.2)):
        killed_after(command(recipe, broken, "archer"), broken, steps, delay)
    subprocess.run(command(recipe, broken, "archer"), check=True)
    lines = read_lines(unbroken / "metrics.jsonl")
    assert [line["staleness"] for line in lines] == [0, 1, 1, 1]
    assert lines[0]["mismatch/largest"] < 1.001  # the same weights
    assert lines[2]["mismatch/k3"] > lines[0]["mismatch/k3"]
    assert content(broken) == content(unbroken)
