"""The scripts in examples/ run as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def ran(name: str, folder: Path) -> str:
    own = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name)], cwd=folder, capture_output=True, text=True,
        env={**os.environ, **own},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_judge_reward(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="the judge's client is not installed: pip install 'archer-rlvr[openai]'")
    assert "judge/cost" in ran("judge_reward.py", tmp_path)


def test_first_steps(tmp_path: Path) -> None:
    assert "Verdict(score=1.0, passed=True, reason='right', answer='0.5')" in ran("first_steps.py", tmp_path)
    assert (tmp_path / "runs" / "first-steps" / "compare" / "archer" / "seed-0" / "metrics.jsonl").is_file()
