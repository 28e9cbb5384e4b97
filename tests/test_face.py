"""What `import archer` offers: lazily, typed, and the same functions that the commands call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import archer
from archer.errors import DataError, RunFolderError
from archer.runs.loaded import load_run


def test_every_name_is_there_and_documented() -> None:
    for name in archer.FACE:
        assert getattr(archer, name).__doc__, name
        assert name in dir(archer)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'trian'; it offers LoadedRun, .*, train, verify"):
        _ = archer.trian


@pytest.mark.parametrize("name", ["train", "compare", "algorithms"])
def test_a_module_of_the_same_name_can_be_called_too(name: str) -> None:
    code = (
        f"import archer, archer.{name}, importlib\n"
        f"module = importlib.import_module('archer.{name}')\n"
        f"assert archer.{name} is module and callable(archer.{name})\n"
        f"import inspect; assert inspect.signature(archer.{name}) == inspect.signature(vars(module)[{name!r}])\n"
        "print(sorted(archer.algorithms())[:2])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['archer', 'archer-released']"


def test_importing_it_loads_nothing_else() -> None:
    code = "import sys, archer; print([name for name in sys.modules if name.startswith('archer.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("gold", "response", "correct", "reason"),
    [
        (r"\frac{1}{2}", r"so \boxed{0.5}", True, "right"),
        ("7", r"\boxed{8}", False, "wrong"),
        ("7", "it is 7", False, "no_answer"),
        (["1", "2"], r"\boxed{2, 1}", True, "right"),
    ],
)
def test_one_math_answer(gold: str | list[str], response: str, correct: bool, reason: str) -> None:
    verdict = archer.verify(gold, response)
    assert (verdict.passed, verdict.reason) == (correct, reason)


def test_one_program() -> None:
    tests = [{"stdin": "3 4", "expected": "7"}, {"stdin": "1 1", "expected": "2"}]
    add = "print(sum(map(int, input().split())))"
    assert archer.judge(add, tests, allow_unisolated=True).reason == "right"
    assert archer.judge("print(7)", tests, allow_unisolated=True).reason == "wrong"
    calls = [{"arguments": [3, 4], "expected": 7}]
    assert archer.judge("def add(a, b): return a + b", calls, function="add", allow_unisolated=True).passed
    with pytest.raises(DataError, match=r"gold: tests\[0\]: 'expected' is missing"):
        archer.judge(add, [{"stdin": "3 4"}])


def test_a_run_as_tables(tmp_path: Path, tiny: Path) -> None:
    changes = [
        f"model.path={tiny}", "steps=2", "data=[{name: lab-arithmetic}]", "rollout.prompts=2",
        "rollout.samples_per_prompt=2", "rollout.max_tokens=8", "update.mini_batch=2",
        "evaluate={benchmarks: [lab-arithmetic], samples: 1, sampling: {max_tokens: 8}}",
    ]  # fmt: skip
    run = archer.train("lab", "grpo", 3, tmp_path / "run", changes=changes, threads=1)
    assert list(run.metrics.index) == [0, 1]
    assert {"reward", "loss", "length"} <= set(run.metrics)
    assert {"generate", "update"} <= set(run.timings)
    assert len(run.rollouts) == 8
    assert run.rollouts["step"].tolist() == [0] * 4 + [1] * 4
    assert run.manifest["seed"] == 3
    assert len(run.results) == len(run.outcomes[0].problems)
    assert load_run(tmp_path / "run").metrics.equals(run.metrics)
    found = archer.evaluate(tiny, "lab-arithmetic", samples=2, problems=4, sampling={"max_tokens": 8},
                            out=tmp_path / "eval", threads=1)  # fmt: skip
    [row] = found.to_pandas().reset_index().to_dict("records")
    assert (row["benchmark"], row["problems"], row["k"]) == ("lab-arithmetic-first-4", 4, 2)
    assert row["avg@k"] == found.samples["correct"].mean()


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no manifest.json there; give the folder of"):
        archer.load_run(tmp_path)
