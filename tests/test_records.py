"""What is shipped: the base model with the outcomes that describe it, and the recorded comparison."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from archer.benchmark import read_benchmark
from archer.lab import TASKS
from archer.policies.load import load_model, model_path
from archer.recipe import Model, read_recipe
from archer.result import read_result
from archer.standings import read_standings, write_tables
from archer.statistics import avg_at_k, pass_at_k

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "leaderboards" / "lab"


def test_the_embedded_model_loads_like_any_other() -> None:
    model, tokenizer = load_model(Model("lab"))
    assert 250_000 < sum(weight.numel() for weight in model.parameters()) < 1_500_000
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    text = "def f(x):\n    return  x*x+5 # na\u00efve"
    assert AutoTokenizer.from_pretrained(model_path("lab")).decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("name", TASKS)
def test_the_base_leaves_something_to_learn(name: str) -> None:
    benchmark = read_benchmark(name)
    result = read_result(RECORD / "base" / "results" / f"{name}.json")
    assert (result.sha256, len(result.problems), result.samples) == (benchmark.sha256, 96, 16)
    assert 0.15 <= avg_at_k(result.outcomes).mean() <= 0.5
    assert pass_at_k(result.outcomes, 16).mean() > 0.6


@pytest.mark.parametrize("algorithm", read_recipe("lab").algorithms)
def test_every_algorithm_learned(algorithm: str) -> None:
    def scores(folder: Path, name: str) -> np.ndarray:
        return avg_at_k(read_result(folder / "results" / f"{name}.json").outcomes)

    for seed in (0, 1, 2):
        rise = {
            name: (scores(RECORD / algorithm / f"seed-{seed}", name) - scores(RECORD / "base", name)).mean()
            for name in TASKS
        }
        assert rise["lab-arithmetic"] >= 0.35
        assert sorted(rise.values())[-2] >= 0.1


def test_the_recorded_table_follows_from_the_recorded_outcomes(tmp_path: Path) -> None:
    shutil.copytree(RECORD, tmp_path / "lab")
    write_tables(read_standings(tmp_path / "lab"), tmp_path / "lab")
    for name in ("table.md", "table.csv"):
        assert (tmp_path / "lab" / name).read_text() == (RECORD / name).read_text()
