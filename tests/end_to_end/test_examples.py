"""The scripts in examples/ run as they are."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from archer.runs.results import read_result

ROOT = Path(__file__).parents[2]


def ran(name: str, folder: Path) -> str:
    return printed([str(ROOT / "examples" / name)], folder)


def printed(arguments: list[str], folder: Path) -> str:
    own = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, env={**os.environ, **own}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_entropy_bonus(tmp_path: Path) -> None:
    assert "bonus" in ran("entropy_bonus.py", tmp_path)
    manifest = json.loads((tmp_path / "runs" / "entropy-bonus" / "manifest.json").read_text())
    assert list(manifest["parts"]) == ["algorithms: custom"]


def test_bleu(tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "examples" / "bleu", tmp_path / "bleu")
    out = printed(["-m", "archer", "eval", "lab", "--benchmarks", "./bleu.yaml", "--out", "out"], folder)
    assert "bleu-demo (8 x 4)" in out
    assert "worst@K  median@K" in out
    result = read_result(folder / "out" / "results" / "bleu-demo.json")
    scores = [score for row in result.scores for score in row]
    assert any(0 < score < 1 for score in scores)
    assert [[score >= 0.5 for score in row] for row in result.scores] == [list(row) for row in result.passed]
    source = hashlib.sha256((folder / "bleu.py").read_bytes()).hexdigest()
    assert result.verifier["./bleu.py:Bleu"] == {"rules": 1, "sha256": source}
    assert result.provenance["metrics"] == {"./bleu.py:median": source}


def test_judge_reward(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="the judge's client is not installed: pip install 'archer-rlvr[openai]'")
    assert "judge/cost" in ran("judge_reward.py", tmp_path)


def test_first_steps(tmp_path: Path) -> None:
    assert "Verdict(score=1.0, passed=True, reason='right', answer='0.5')" in ran("first_steps.py", tmp_path)
    assert (tmp_path / "runs" / "first-steps" / "compare" / "archer" / "seed-0" / "metrics.jsonl").is_file()
