"""A run whose reward is a sum with a judge: parts and cost are logged, a judge that fails ends it, and it goes on."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import yaml
from helpers.judge_server import Answer, fake_judge
from helpers.kills import command

from archer.runs.folder import read_lines

MINE = """
def even(problem, text):
    return len(text) % 2 == 0
"""


def recipe_of(tiny: Path, url: str) -> str:
    judge = {
        "name": "judge", "weight": 0.5, "url": url, "model": "fake", "retries": 0, "thinking": True, "price_in": 1.0,
    }  # fmt: skip
    return yaml.safe_dump({
        "name": "judged", "steps": 3, "model": {"path": str(tiny)}, "algorithms": {"grpo": {}},
        "data": [{
            "name": "lab-arithmetic",
            "reward": ["math", judge, {"name": "length", "weight": 0.1, "target": 4, "limit": 24}, "./mine.py:even"],
        }],
        "rollout": {"prompts": 2, "samples_per_prompt": 4, "max_tokens": 24, "max_concurrency": 8},
        "update": {"lr": 1.0e-3, "mini_batch": 2}, "save": {"every": 1, "keep": 1}, "reward": {"workers": 1},
    })  # fmt: skip


def test_a_run_with_a_judge_stops_where_it_fails_and_goes_on(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    served, lock = [0], threading.Lock()

    def script(prompt: str) -> Answer:
        with lock:
            served[0] += 1
            return Answer(status=503) if served[0] == 12 else Answer(f"VERDICT: {'yes' if served[0] % 2 else 'no'}")

    with fake_judge(script) as judge:
        (recipe := tmp_path / "recipe.yaml").write_text(recipe_of(tiny, judge.url))
        folder = tmp_path / "run"
        stopped = subprocess.run(command(recipe, folder, "grpo"), cwd=tmp_path, capture_output=True, text=True)
        assert stopped.returncode == 1
        assert "status 503" in stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert len(read_lines(folder / "metrics.jsonl")) < 3
        subprocess.run(command(recipe, folder, "grpo"), cwd=tmp_path, check=True)
    steps = read_lines(folder / "metrics.jsonl")
    assert len(steps) == 3
    for step in steps:
        assert step["judge/prompt_tokens"] == 100 * step["judge/calls"]
        assert "judge/seconds" not in step
        assert step["judge/cost"] == step["judge/calls"] * 1e-4
        parts = {name: step[f"reward_part/{name}"] for name in ("math", "judge", "length", "even")}
        total = parts["math"] + 0.5 * parts["judge"] + 0.1 * parts["length"] + parts["even"]
        assert abs(step["reward"] - total) < 1e-9
    assert json.loads((folder / "manifest.json").read_text())["recipe"]["data"][0]["reward"].startswith(
        '[{"name":"math"'
    )
