"""Sources: files of one's own, the lab, and how a stream mixes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archer.errors import DataError
from archer.problems import open_source, open_stream
from archer.recipe import Source


def written(folder: Path, rows: list[dict], name: str = "train.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_rows_become_problems(tmp_path: Path) -> None:
    path = written(tmp_path, [{"question": "1+1?", "answer": "2"}])
    source = Source("mine", path=path, prompt="question", instruction="Solve: {prompt} Box the answer.")
    problem = open_source(source, seed=0)(0)
    assert (problem.id, problem.prompt, problem.gold) == ("mine/1", "Solve: 1+1? Box the answer.", "2")


def test_every_epoch_holds_every_row_once_in_a_new_order(tmp_path: Path) -> None:
    path = written(tmp_path, [{"prompt": str(n), "answer": str(n)} for n in range(20)])
    at = open_source(Source("mine", path=path), seed=3)
    first, second = ([at(index + start).gold for index in range(20)] for start in (0, 20))
    assert sorted(first) == sorted(second) == sorted(map(str, range(20)))
    assert first != second


def test_a_cycle_takes_sources_by_weight(tmp_path: Path) -> None:
    path = written(tmp_path, [{"prompt": "p", "answer": "1"}])
    stream = open_stream([Source("lab-arithmetic", weight=2), Source("mine", path=path)], seed=0)
    assert [problem.source for problem in stream.take(0, 6)] == [
        "lab-arithmetic",
        "lab-arithmetic",
        "mine",
    ] * 2
    assert [problem.id for problem in stream.take(3, 2)] == [
        "lab-arithmetic/train/2",
        "lab-arithmetic/train/3",
    ]


def test_seeds_train_on_different_lab_problems() -> None:
    first, second = ({p.prompt for p in open_stream([Source("lab-arithmetic")], seed).take(0, 50)} for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize(
    ("rows", "name", "message"),
    [
        ('{"prompt": "a", "answer": "1"}\n{"prompt"\n', "a.jsonl", "line 2: not JSON"),
        ('{"prompt": "a", "anser": "1"}\n', "a.jsonl", r"row 1: no column 'answer' \(did you mean 'anser'"),
        ("", "a.jsonl", "no rows"),
        ("{}", "a.json", "expected a list of rows, found dict"),
    ],
)
def test_bad_files(tmp_path: Path, rows: str, name: str, message: str) -> None:
    (tmp_path / name).write_text(rows)
    with pytest.raises(DataError, match=message):
        open_source(Source("mine", path=str(tmp_path / name)), seed=0)


def test_a_missing_file_and_an_unknown_task() -> None:
    with pytest.raises(DataError, match="no such file"):
        open_source(Source("mine", path="nowhere.jsonl"), seed=0)
    with pytest.raises(DataError, match="did you mean 'lab-code'"):
        open_source(Source("lab-cod"), seed=0)


def test_real_benchmark_files_load(shared: Path) -> None:
    source = Source("aime24", path=str(shared / "math/aime24.jsonl"), prompt="problem", gold="expected_answer")
    source = Source(**{**source.__dict__, "path": str(shared / "data/math/aime24.jsonl")})
    at = open_source(source, seed=0)
    assert len({at(index).id for index in range(30)}) == 30
