"""A run killed at any moment goes on to bitwise the same weights, rollouts and metrics."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.kills import command, content, killed_after

from archer.errors import RunFolderError
from archer.runs.folder import RunWriter, read_lines

RECIPE = """
name: resume
steps: 4
model: {{path: {model}}}
data: [{{name: lab-arithmetic}}, {{name: lab-code}}]
algorithms: {{archer: {{}}, dapo: {{group_filter: none}}}}
rollout: {{prompts: 4, samples_per_prompt: 4, max_tokens: 24, max_concurrency: 8}}
update: {{lr: 1.0e-3, warmup: 2, mini_batch: 2, epochs: 2}}
evaluate: {{benchmarks: [lab-arithmetic], samples: 1, during_training: {{every: 2, problems: 4, samples: 2}}}}
save: {{every: {every}, keep: 1}}
"""


@pytest.mark.parametrize(
    ("algorithm", "every", "kills"), [("archer", 1, [(1, 0.05), (2, 0.3)]), ("dapo", 3, [(2, 0.1)])]
)
def test_a_killed_run_resumes_bitwise(tmp_path: Path, tiny: Path, algorithm: str, every: int, kills: list) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=tiny, every=every))
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    subprocess.run(command(recipe, unbroken, algorithm), check=True)
    for steps, delay in kills:
        killed_after(command(recipe, broken, algorithm), broken, steps, delay)
        assert len(read_lines(broken / "metrics.jsonl")) < 4
    subprocess.run(command(recipe, broken, algorithm), check=True)
    assert content(broken) == content(unbroken)
    assert len(read_lines(broken / "metrics.jsonl")) == 4


def test_a_run_folder_of_before_goes_on(tmp_path: Path, tiny: Path) -> None:
    """Its manifest has the keys, and so the fingerprint, of before they were renamed."""
    recipe, whole, before = tmp_path / "recipe.yaml", tmp_path / "whole", tmp_path / "before"
    recipe.write_text(RECIPE.format(model=tiny, every=1).replace("keep: 1", "keep: 4"))
    subprocess.run(command(recipe, whole, "archer"), check=True)
    shutil.copytree(whole, before)
    for step in (3, 4):
        shutil.rmtree(before / "checkpoints" / f"step-{step:06d}")
    manifest = json.loads((before / "manifest.json").read_text())
    sections = manifest["recipe"]
    for section, old, new in (
        ("rollout", "group", "samples_per_prompt"), ("rollout", "slots", "max_concurrency"),
        ("rollout", "ahead", "prefetch"), ("update", "tokens", "micro_batch_tokens"),
        ("update", "clip_norm", "max_grad_norm"), ("model", "template", "chat_template_kwargs"),
        ("reward", "engines", "docker_hosts"),
    ):  # fmt: skip
        sections[section][old] = sections[section].pop(new)
    curve = sections["evaluate"].pop("during_training")
    sections["evaluate"] |= {
        "every": curve["every"], "curve_problems": curve["problems"], "curve_samples": curve["samples"],
    }  # fmt: skip
    sections["rollout"] |= {"vllm": {}, "correction": {}}  # defaults were not written out
    (before / "manifest.json").write_text(json.dumps({**manifest, "recipe_digest": "0123456789abcdef"}))
    subprocess.run(command(recipe, before, "archer"), check=True)
    assert content(before) == content(whole)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    RunWriter(tmp_path, {"recipe_digest": "a", "algorithm": "dapo", "seed": 0}).close()
    with pytest.raises(RunFolderError, match="holds a run with seed 0, this one has 1; choose another --out"):
        RunWriter(tmp_path, {"recipe_digest": "a", "algorithm": "dapo", "seed": 1})


def test_two_writers_of_one_folder_are_refused(tmp_path: Path) -> None:
    first = RunWriter(tmp_path, {"seed": 0})
    with pytest.raises(RunFolderError, match="another process is writing this run"):
        RunWriter(tmp_path, {"seed": 0})
    first.close()
    RunWriter(tmp_path, {"seed": 0}).close()


def test_a_line_cut_short_by_a_kill_is_forgotten(tmp_path: Path) -> None:
    journal = RunWriter(tmp_path, {"seed": 0})
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss": 1.5}\n{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    assert [row["step"] for row in read_lines(tmp_path / "metrics.jsonl")] == [0, 1]
    journal.rewind(1)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 0, "loss": 1.5}\n'
