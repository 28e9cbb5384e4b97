"""A run killed at any moment goes on to bitwise the same weights, rollouts and metrics."""

from __future__ import annotations

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
