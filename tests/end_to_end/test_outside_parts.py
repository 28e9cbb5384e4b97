"""Parts from outside the package, trained with: files, a package's entry points, objects in Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import archer
from archer.algorithms import Algorithm
from archer.algorithms.grpo import Grpo
from archer.algorithms.tokens import Tokens
from archer.errors import RecipeError, RunFolderError, UserError
from archer.problems.formats import ShapedRow

ROOT = Path(__file__).parents[2]
MINE = """
import json
from dataclasses import dataclass

from archer.algorithms import Algorithm
from archer.algorithms.grpo import Grpo
from archer.engines.native.kind import open_native
from archer.problems.formats import ShapedRow


@dataclass(frozen=True)
class Halved(Grpo):
    share: float = 0.5

    def __call__(self, tokens):
        loss_BT, columns = super().__call__(tokens)
        return self.share * loss_BT, columns


HALVED = Algorithm(Halved(kl_weight=0.0))


def shape(row):
    return ShapedRow(id=row["key"], prompt=row["q"], gold=row["a"])


def engine(spec, model, ranks):
    print("depth", spec.rollout.engine_options["depth"])
    return open_native(spec, None, ranks)


class Lines:
    def __init__(self, folder, manifest):
        self.file = (folder / "lines.txt").open("a")

    def log(self, step, metrics):
        self.file.write(f"{step} {sorted(metrics)[0]}\\n")

    def close(self):
        self.file.write("closed\\n")
        self.file.close()
"""
RECIPE = """
name: outside
steps: 2
model: {{path: {model}}}
data: [{{name: sums, path: rows.jsonl, format: {format}}}]
algorithms: {{halved: {{base: {base}, objective: {{share: 0.25}}}}}}
rollout: {{prompts: 2, samples_per_prompt: 2, max_tokens: 8, engine: {engine}, engine_options: {{depth: 2}}}}
update: {{lr: 1.0e-3, mini_batch: 2}}
log: [{log}]
"""
BY_FILE = {
    "format": "./mine.py:shape", "base": "./mine.py:HALVED", "engine": "./mine.py:engine", "log": "./mine.py:Lines",
}  # fmt: skip
BY_NAME = {"format": "their-rows", "base": "their-algorithm", "engine": "their-engine", "log": "their-tracker"}
SHORT = ["steps=1", "rollout.prompts=2", "rollout.samples_per_prompt=2", "rollout.max_tokens=8", "update.mini_batch=2",
         "evaluate.benchmarks=[]", "evaluate.during_training.every=0"]  # fmt: skip


def rows(folder: Path) -> None:
    lines = [{"key": f"r{number}", "q": f"{number} + 1 =", "a": str(number + 1)} for number in range(6)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def run(folder: Path, *words: str, more: Path | None = None) -> subprocess.CompletedProcess[str]:
    home = os.pathsep.join(str(path) for path in (more, ROOT, os.environ.get("PYTHONPATH")) if path)
    command = [sys.executable, "-m", "archer", *words]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": home, "PYTHONSAFEPATH": "1"}
    )  # fmt: skip


def test_parts_of_a_file(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=tiny, **BY_FILE))
    rows(tmp_path)
    done = run(tmp_path, "train", "recipe.yaml", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "depth 2" in done.stdout
    assert (tmp_path / "out" / "lines.txt").read_text().splitlines()[-1] == "closed"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert list(manifest["parts"]) == [
        "algorithms: ./mine.py:HALVED", "engines: ./mine.py:engine", "formats: ./mine.py:shape",
    ]  # fmt: skip
    assert run(tmp_path, "train", "recipe.yaml", "--out", "out").returncode == 0  # the same parts: nothing to do
    (tmp_path / "mine.py").write_text(f"{MINE}\n# changed\n")
    other = run(tmp_path, "train", "recipe.yaml", "--out", "out")
    assert other.returncode == 2
    assert "out: holds a run with another source of algorithms: ./mine.py:HALVED (sha256 " in other.stderr
    plan = run(tmp_path, "train", "recipe.yaml", "--dry-run", "--gpu-memory", "8", "--set", "model.context=4096")
    assert "rollout.engine ./mine.py:engine does not tell, so it is not known whether that fits" in plan.stdout
    score = ["eval", str(tiny), "--recipe", "recipe.yaml", "--benchmarks", "lab-arithmetic", "--problems", "2"]
    evaluated = run(tmp_path, *score, "--samples", "1", "--max-tokens", "8", "--out", "scores")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "depth 2" in evaluated.stdout


def test_parts_of_an_installed_package(tmp_path: Path, tiny: Path) -> None:
    site = tmp_path / "site"
    (site / "theirs-1.0.dist-info").mkdir(parents=True)
    (site / "theirs.py").write_text(MINE)
    (site / "theirs-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (site / "theirs-1.0.dist-info" / "entry_points.txt").write_text(
        "[archer.formats]\ntheir-rows = theirs:shape\n[archer.algorithms]\ntheir-algorithm = theirs:HALVED\n"
        "[archer.engines]\ntheir-engine = theirs:engine\n[archer.trackers]\ntheir-tracker = theirs:Lines\n"
    )
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=tiny, **BY_NAME))
    rows(tmp_path)
    done = run(tmp_path, "train", "recipe.yaml", "--out", "out", more=site)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert list(manifest["parts"]) == ["algorithms: their-algorithm", "engines: their-engine", "formats: their-rows"]
    without = run(tmp_path, "train", "recipe.yaml", "--out", "other")
    assert (without.returncode, "no algorithm 'their-algorithm'" in without.stderr) == (2, True)


@dataclass(frozen=True)
class Scaled(Grpo):
    """An objective of one's own."""

    share: float = 0.5

    def __call__(self, tokens: Tokens):  # type: ignore[no-untyped-def]
        loss_BT, columns = super().__call__(tokens)
        return self.share * loss_BT, columns


def shape(row: dict[str, str]) -> ShapedRow:
    return ShapedRow(id=row["key"], prompt=row["q"], gold=row["a"])


def test_objects_in_python(tmp_path: Path, tiny: Path) -> None:
    rows(tmp_path)
    changes = [*SHORT, f"model.path={tiny}", f"data=[{{name: sums, path: {tmp_path}/rows.jsonl, format: mine}}]"]
    parts = {"formats": {"mine": shape}}
    ran = archer.train("lab", Algorithm(Scaled(kl_weight=0.0)), out=tmp_path / "out", changes=changes, parts=parts)
    assert ran.manifest["algorithm"] == "custom"
    assert list(ran.manifest["parts"]) == ["algorithms: custom", "formats: mine"]
    assert len(ran.metrics) == 1
    with pytest.raises(RunFolderError, match="holds a run with another source of algorithms: custom"):
        archer.train("lab", Algorithm(Scaled(share=0.1)), out=tmp_path / "out", changes=changes, parts=parts)
    with pytest.raises(UserError, match="no format 'mine'"):
        archer.train("lab", "grpo", out=tmp_path / "out", changes=changes)


def test_a_comparison_takes_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compare: Algorithm.*put it into a file and name that in the recipe"):
        archer.compare("lab", [Algorithm(Grpo())], out=tmp_path)  # type: ignore[list-item]
    with pytest.raises(
        RecipeError, match=r"give it a name in the recipe, as in --set 'algorithms.mine=\{base: ./m.py:A\}'"
    ):
        archer.train("lab", "./m.py:A", out=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rollout.engine=vlm", r"rollout.engine: engines: no engine 'vlm' \(did you mean 'vllm'\?\)"),
        ("rollout.engine=statistics:NormalDist.mean", "expected an EngineKind or a function, found <property"),
        ("rollout.engine_options={depth: 2}", "are those of an engine of your own; native reads the other keys"),
        ("log=[wandbb]", r"trackers: no tracker 'wandbb' \(did you mean 'wandb'\?\)"),
    ],
)
def test_a_part_that_is_none_is_refused_before_anything_runs(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        archer.train("lab", "grpo", out=tmp_path / "out", changes=[*SHORT, change])
    assert not (tmp_path / "out").exists()
