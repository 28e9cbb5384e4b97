"""The scripts in examples/ run as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_first_steps(tmp_path: Path) -> None:
    own = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "first_steps.py")], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, **own},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Verdict(score=1.0, passed=True, reason='right', answer='0.5')" in done.stdout
    assert (tmp_path / "runs" / "first-steps" / "compare" / "archer" / "seed-0" / "metrics.jsonl").is_file()
