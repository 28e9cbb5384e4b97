"""Sources: files of one's own, the lab, and how a stream mixes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from archer.errors import DataError, UserError
from archer.problems.rows import read_rows
from archer.problems.streams import open_source, open_stream, read_problems
from archer.recipe.sections import DataSource


def written(folder: Path, rows: list[dict], name: str = "train.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_rows_become_problems(tmp_path: Path) -> None:
    path = written(tmp_path, [{"question": "1+1?", "answer": "2"}])
    source = DataSource("mine", path=path, prompt="question", instruction="Solve: {prompt} Box the answer.")
    problem = open_source(source, seed=0)(0)
    assert (problem.id, problem.prompt, problem.gold) == ("mine/1", "Solve: 1+1? Box the answer.", "2")


def test_every_epoch_holds_every_row_once_in_a_new_order(tmp_path: Path) -> None:
    path = written(tmp_path, [{"prompt": str(n), "answer": str(n)} for n in range(20)])
    at = open_source(DataSource("mine", path=path), seed=3)
    first, second = ([at(index + start).gold for index in range(20)] for start in (0, 20))
    assert sorted(first) == sorted(second) == sorted(map(str, range(20)))
    assert first != second


def test_a_cycle_takes_sources_by_weight(tmp_path: Path) -> None:
    path = written(tmp_path, [{"prompt": "p", "answer": "1"}])
    stream = open_stream([DataSource("lab-arithmetic", weight=2), DataSource("mine", path=path)], seed=0)
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
    first, second = (
        {p.prompt for p in open_stream([DataSource("lab-arithmetic")], seed).take(0, 50)} for seed in (0, 1)
    )
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
        open_source(DataSource("mine", path=str(tmp_path / name)), seed=0)


def test_a_missing_file_and_an_unknown_task() -> None:
    with pytest.raises(DataError, match="no such file"):
        open_source(DataSource("mine", path="nowhere.jsonl"), seed=0)
    with pytest.raises(DataError, match="did you mean 'lab-code'"):
        open_source(DataSource("lab-cod"), seed=0)


@pytest.mark.parametrize("split", ["train", "test", "validation", "prompt"])
def test_a_file_of_mbpp_gives_the_split_asked_for(data_file: Callable[[str], Path], split: str) -> None:
    path = str(data_file("code/mbpp.jsonl"))
    found = read_problems(DataSource("mbpp", path=path, split=split, format="mbpp", reward="code"), 0)
    first = {"prompt": (1, 10), "test": (11, 500), "validation": (511, 90), "train": (601, 374)}[split]
    assert (found[0].id, len(found)) == (f"mbpp/{first[0]}", first[1])


def test_rows_of_a_folder_in_the_order_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    written(folder, [{"prompt": "b", "answer": "1"}], "2.jsonl")
    (folder / "1.json").write_text('[{"prompt": "a\u2028", "answer": "2"}]', encoding="utf-8")
    (folder / "readme.md").write_text("words")
    found = read_problems(DataSource("mine", path=str(folder)), 0)
    assert [(problem.id, problem.prompt) for problem in found] == [("mine/1", "a\u2028"), ("mine/2", "b")]
    (folder / "1.json").unlink()
    (folder / "2.jsonl").unlink()
    with pytest.raises(DataError, match="no .json or .jsonl file in this folder"):
        read_problems(DataSource("mine", path=str(folder)), 0)


def test_only_the_rows_asked_for_are_kept(tmp_path: Path) -> None:
    written(tmp_path, [{"prompt": str(n), "answer": "1"} for n in range(3)])
    with (tmp_path / "train.jsonl").open("a") as lines:
        lines.write('{"prompt"')
    rows = read_rows(DataSource("mine", path=str(tmp_path / "train.jsonl")))
    assert [next(rows)["prompt"] for _ in range(3)] == ["0", "1", "2"]  # read line by line
    with pytest.raises(DataError, match="line 4: not JSON"):
        next(rows)


def test_a_source_s_reward_is_checked_before_its_rows(tmp_path: Path) -> None:
    source = DataSource("mine", path=str(tmp_path / "none.jsonl"), reward='{"decimal":2,"name":"math"}')
    with pytest.raises(UserError, match="data: mine: reward: math: unknown key 'decimal'"):
        open_source(source, 0)
    with pytest.raises(UserError, match="data: lab-arithmetic: rewards: no reward 'mth' .did you mean 'math'"):
        open_source(DataSource("lab-arithmetic", reward="mth"), 0)


def test_a_lab_source_s_reward_replaces_the_task_s() -> None:
    spec = '[{"name":"countdown","weight":1.0},{"name":"format","weight":0.5}]'
    assert open_source(DataSource("lab-countdown", reward=spec), 0)(3).reward == spec
    assert open_source(DataSource("lab-countdown"), 0)(3).reward == "countdown"


def test_rewards_of_other_golds_are_refused_and_those_that_read_any_are_not(tmp_path: Path) -> None:
    path = written(tmp_path, [{"question": "1+1?", "answer": "1 + 1 = 2 #### 2"}])

    def gold(reward: str) -> str:
        [problem] = read_problems(DataSource("g", path=path, format="gsm8k", reward=reward), 1)
        assert problem.reward == reward
        return str(problem.gold)

    assert gold("math") == gold("last_number") == gold('[{"name":"math","weight":1.0},{"name":"format","weight":1.0}]')
    for reward in ("code", "countdown"):
        with pytest.raises(DataError, match=f"format gsm8k gives golds for the reward math; .*found '{reward}'"):
            gold(reward)
