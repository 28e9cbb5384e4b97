"""What is shipped: the base model with the outcomes that describe it, and the recorded comparison."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from archer.errors import DataError
from archer.evaluation.benchmark import read_benchmark
from archer.evaluation.estimates import avg_at_k, pass_at_k
from archer.leaderboards.paper.maintain import verify, write_all
from archer.leaderboards.paper.specs import spec_names
from archer.models.loading import load_model, model_path
from archer.problems.lab import TASKS
from archer.recipe.reading import read_recipe
from archer.recipe.sections import ModelSection
from archer.runs.results import read_result

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "leaderboards"
RECORD = BOARDS / "lab"


def test_the_embedded_model_loads_like_any_other() -> None:
    model, tokenizer = load_model(ModelSection("lab"))
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
    assert 0.15 <= avg_at_k(result.scores).mean() <= 0.5
    assert pass_at_k(result.passed, 16).mean() > 0.6


@pytest.mark.parametrize("algorithm", read_recipe("lab").algorithms)
def test_every_algorithm_learned(algorithm: str) -> None:
    def scores(folder: Path, name: str) -> np.ndarray:
        return avg_at_k(read_result(folder / "results" / f"{name}.json").scores)

    for seed in (0, 1, 2):
        rise = {
            name: (scores(RECORD / algorithm / f"seed-{seed}", name) - scores(RECORD / "base", name)).mean()
            for name in TASKS
        }
        assert rise["lab-arithmetic"] >= 0.35
        assert sorted(rise.values())[-2] >= 0.1


def test_every_committed_table_is_made_of_what_is_committed(tmp_path: Path) -> None:
    """Byte for byte: whoever changes a number, a result or a layout commits the tables anew."""
    shutil.copytree(RECORD, tmp_path / "lab", ignore=shutil.ignore_patterns("table.*"))
    written = write_all(BOARDS, tmp_path)
    assert len(written) == 4 * len(spec_names()) + 2
    for path in written:
        kept = BOARDS / path.relative_to(tmp_path)
        assert kept.read_bytes() == path.read_bytes(), f"{kept}: run `archer table --write` and look at the change"
    found = {path.relative_to(BOARDS) for ending in ("csv", "tex", "html") for path in BOARDS.rglob(f"*.{ending}")}
    tables = {path for path in found if path.parts[0] != "perf"}  # measurements of speed have pages of their own
    assert tables == {path.relative_to(tmp_path) for path in written if path.suffix != ".md"}  # and no others


def test_what_is_committed_verifies() -> None:
    told = verify(BOARDS)
    assert "30 in 1 comparisons, 46,080 outcomes" in told[1]


def copied(tmp_path: Path) -> Path:
    """Return a copy of the leaderboards."""
    return Path(shutil.copytree(BOARDS, tmp_path / "leaderboards"))


def test_a_table_edited_by_hand_is_found(tmp_path: Path) -> None:
    root = copied(tmp_path)
    page = root / "paper-math.md"
    page.write_text(page.read_text().replace("48.7", "58.7"))
    (root / "lab" / "table.csv").unlink()
    with pytest.raises(DataError) as caught:
        verify(root)
    assert "paper-math.md: is not what its numbers make; run `archer table --write`" in str(caught.value)
    assert "table.csv: is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"sha256": "14', '"sha256": "00', r"stale or foreign"),
        ('"benchmark": "lab-code"', '"benchmark": "lab-cod"', "no benchmark 'lab-cod'"),
        ('"max_tokens": 192', '"max_tokens": 193', "drawn with .*193"),
        ("true", "false", "passes and reasons contradict each other"),
        ('"tokens": [[', '"tokens": [[1', "is not what its numbers make"),
    ],
)
def test_a_changed_result_is_found(tmp_path: Path, old: str, new: str, message: str) -> None:
    root = copied(tmp_path)
    path = root / "lab" / "archer" / "seed-1" / "results" / "lab-code.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        verify(root)


def test_a_foreign_result_among_the_committed_ones_is_found(tmp_path: Path) -> None:
    root = copied(tmp_path)
    stray = root / "results" / "elsewhere.json"
    stray.write_text((RECORD / "base" / "results" / "lab-code.json").read_text().replace('"lab-code"', '"aime24"'))
    with pytest.raises(DataError, match=r"elsewhere\.json: stale or foreign"):
        verify(root)
