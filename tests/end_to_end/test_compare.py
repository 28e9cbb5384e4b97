"""``archer compare`` end to end on an untrained model: the table, going on after Ctrl-C, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archer.compare import CompareJob, ComparePlan, schedule, without_programs
from archer.errors import MissingError
from archer.recipe.reading import read_recipe
from archer.runs.folder import read_lines
from archer.runs.results import read_result

RECIPE = """
name: small
steps: {steps}
model: {{path: {model}}}
data: [{{name: lab-countdown}}, {{name: lab-code}}]
algorithms: {{grpo: {{}}, archer: {{}}}}
rollout: {{prompts: 2, samples_per_prompt: 4, max_tokens: 16}}
update: {{lr: 1.0e-3, mini_batch: 2}}
evaluate: {{benchmarks: [lab-countdown, lab-code], samples: 2, during_training: {{every: 1, problems: 2, samples: 1}}}}
"""


def archer(*arguments: str, **options: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "archer", *arguments], capture_output=True, text=True, **options)


def written(folder: Path, model: Path, steps: int) -> str:
    path = folder / "small.yaml"
    path.write_text(RECIPE.format(model=model, steps=steps))
    return str(path)


def test_a_comparison_ends_with_a_table_and_a_page(tmp_path: Path, tiny: Path) -> None:
    recipe, out = written(tmp_path, tiny, 2), tmp_path / "out"
    done = archer("compare", "--recipe", recipe, "--seeds", "2", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "archer" in done.stdout
    assert "grpo" in done.stdout
    for name in ("table.md", "table.csv", "report.html", "manifest.json", "recipe.yaml"):
        assert (out / name).stat().st_size > 100
    for algorithm in ("grpo", "archer"):
        for seed in (0, 1):
            folder = out / algorithm / f"seed-{seed}"
            assert [row["step"] for row in read_lines(folder / "metrics.jsonl")] == [0, 1]
            assert (folder / "checkpoints" / "step-000002" / "model.safetensors").is_file()
            result = read_result(folder / "results" / "lab-code.json")
            assert (result.label, result.seed, len(result.problems), result.samples) == (
                algorithm,
                seed,
                96,
                2,
            )
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["algorithms"] == ["grpo", "archer"]
    again = archer("table", str(out))
    assert again.returncode == 0
    assert "Differences in avg@K" in again.stdout  # all tables; a comparison itself ends with a short one
    assert "Differences in avg@K" not in done.stdout
    assert f"All tables: archer table {out}" in done.stdout.replace("\n", " ")
    assert len(done.stdout.splitlines()) < 30
    command = ["compare", "--recipe", recipe, "--seeds", "2", "--out", str(out)]
    other = archer(*command, "--set", "algorithms.archer={objective: {knowledge_kl: 0}}")
    assert other.returncode == 2  # the finished run is of another Archer: it must not stand for this one
    assert "archer/seed-0: holds a run with recipe_digest" in other.stderr


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tmp_path: Path, tiny: Path) -> None:
    recipe, out = written(tmp_path, tiny, 25), tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "archer",
        "compare",
        "--recipe",
        recipe,
        "--seeds",
        "1",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics = out / "grpo" / "seed-0" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while len(read_lines(metrics)) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in said
    before = metrics.read_text()
    assert len(before.splitlines()) < 25
    done = archer("compare", "--recipe", recipe, "--seeds", "1", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert metrics.read_text().startswith("".join(before.splitlines(keepends=True)[:-1]))
    assert len(read_lines(metrics)) == 25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--recipe", "{recipe}", "--algorithms", "grpo,dappo"], "no algorithm 'dappo' (did you mean 'dapo'?)"),
        (["compare", "--recipe", "{recipe}", "--set", "rollout.promts=3"], "unknown key 'promts' (did you mean 'prompts'?)"),
        (["train", "{recipe}"], "has grpo, archer; choose one with --algorithm"),
        (["train", "{recipe}", "--algorithm", "grpo", "--set", "model.path=./nowhere"], "./nowhere: no config.json there"),
        (["train", "{recipe}", "--algorithm", "grpo", "--set", "evaluate.benchmarks=[aime42]"], "no benchmark or suite 'aime42'"),
        (["train", "{recipe}", "--algorithm", "grpo", "--set", "rollout.max_tokens=600"], "lower `max_tokens`"),
        (["compare", "--recipe", "{recipe}", "--set", "evaluate.benchmarks=[lab_code]"], "no benchmark or suite 'lab_code'"),
        (["compare", "--recipe", "{recipe}", "--set", "model.path=./nowhere"], "./nowhere: no config.json there"),
        (["compare", "--recipe", "{recipe}", "--quick"], "--quick is a recipe of its own"),
        (["compare", "--recipe", "{recipe}", "--set", "algorithms.base={base: grpo}"], "not `base`"),
        (["train", "{recipe}", "--algorithm", "grpo", "--set", "evaluate.benchmarks=[x"], "not readable as YAML"),
        (["eval", "{recipe}", "--benchmarks", "lab-code"], "no config.json there"),
        (["table", "./nowhere"], "nowhere"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_and_code_2(tmp_path: Path, tiny: Path, arguments: list[str], message: str) -> None:
    recipe = written(tmp_path, tiny, 2)
    out = [] if arguments[0] == "table" else ["--out", str(tmp_path / "out")]
    done = archer(*[part.replace("{recipe}", recipe) for part in arguments], *out, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out*"))


def test_a_run_folder_of_another_recipe_is_refused(tmp_path: Path, tiny: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text('{"recipe_digest": "other"}')
    done = archer("compare", "--recipe", written(tmp_path, tiny, 2), "--out", str(out))
    assert done.returncode == 2
    assert "holds a run with recipe_digest 'other'" in done.stderr


def test_a_job_s_failure_is_the_comparison_s(tmp_path: Path, tiny: Path) -> None:
    recipe = written(tmp_path, tiny, 2)
    done = archer(
        "compare", "--recipe", recipe, "--seeds", "1", "--out", str(tmp_path / "out"),
        "--set", "algorithms={dapo: {max_resample_rounds: 1}, grpo: {}}",
    )  # fmt: skip
    assert done.returncode == 2
    assert "dynamic sampling: of 4 groups asked only 0 have samples with different rewards, 2 are wanted" in done.stderr
    assert len(read_lines(tmp_path / "out" / "grpo" / "seed-0" / "metrics.jsonl")) == 2  # the healthy run went on


def test_a_full_disk_is_one_message_and_nothing_half_written(tmp_path: Path, tiny: Path) -> None:
    folder = Path("/dev/shm") / f"archer-full-{os.getpid()}"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("mounting a small file system needs root")
    try:
        recipe = written(tmp_path, tiny, 2)
        done = archer("train", recipe, "--algorithm", "grpo", "--threads", "1", "--out", str(folder / "out"))
        assert done.returncode == 2
        assert "free some space and run the same command again" in done.stderr
        assert not list((folder / "out").glob("checkpoints/step-*"))
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def test_without_bubblewrap_the_math_families_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MissingError("bubblewrap is not installed: apt-get install bubblewrap")

    monkeypatch.setattr("archer.compare.open_executor", missing)
    recipe, note = without_programs(read_recipe("lab"))
    assert [source.name for source in recipe.data] == ["lab-arithmetic", "lab-countdown"]
    assert recipe.evaluate.benchmarks == ("lab-arithmetic", "lab-countdown")
    assert note == "programs are left out: bubblewrap is not installed: apt-get install bubblewrap"


def test_asking_for_programs_without_bubblewrap_is_an_error(tmp_path: Path, tiny: Path) -> None:
    environment = {**os.environ, "PATH": str(Path(sys.executable).parent)}
    arguments = [
        "train",
        written(tmp_path, tiny, 2),
        "--algorithm",
        "grpo",
        "--threads",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    done = archer(*arguments, env=environment)
    assert done.returncode == 2
    assert "bubblewrap" in done.stderr
    assert "--allow-unisolated" in done.stderr


def test_jobs_fill_the_cores() -> None:
    assert schedule(6, 0, 2, gpu=False) == (2, 1)
    assert schedule(1, 0, 2, gpu=False) == (1, 2)
    assert schedule(3, 0, 16, gpu=False) == (3, 5)
    assert schedule(6, 0, 16, gpu=True) == (1, 16)
    assert schedule(6, 1, 2, gpu=False) == (1, 2)


def test_the_base_is_evaluated_once_and_last(tmp_path: Path) -> None:
    plan = ComparePlan(read_recipe("lab"), ("dapo", "grpo"), 2, tmp_path, 2, 1)
    assert [job.title for job in plan.jobs()] == [
        "dapo seed 0", "grpo seed 0", "dapo seed 1", "grpo seed 1", "base",
    ]  # fmt: skip
    assert plan.jobs()[-1] == CompareJob("base", 0, tmp_path / "base", 0)


def test_an_evaluation_s_folder_is_not_another_model_s(tmp_path: Path, tiny: Path) -> None:
    recipe = written(tmp_path, tiny, 2)
    shared = ["--recipe", recipe, "--benchmarks", "lab-countdown", "--set", "evaluate.samples=1", "--threads", "1"]
    first = archer("eval", str(tiny), *shared, "--out", str(tmp_path / "out"))
    assert first.returncode == 0, first.stderr
    assert "lab-countdown (96 x 1)" in first.stdout
    other = archer("eval", "lab", *shared, "--out", str(tmp_path / "out"))
    assert other.returncode == 2
    assert "holds a run with recipe_digest" in other.stderr


def test_children_run_the_code_that_started_them(tmp_path: Path) -> None:
    (tmp_path / "archer.py").write_text("raise SystemExit('the wrong archer')")
    done = archer("--help", cwd=tmp_path, env={**os.environ, "PYTHONSAFEPATH": "1"})
    assert done.returncode == 0
