"""What a training file shares with a benchmark, on rows whose overlap is counted by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from archer.__main__ import app
from archer.errors import DataError
from archer.tools.overlap import Overlap, TrainingRow, compare, read_training, words_of, write
from archer.types import Problem

TWENTY = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
]


def problem(number: int, prompt: str, gold: object = "7") -> Problem:
    return Problem(f"b/{number}", "b", prompt, "math", gold)


def row(number: int, text: str, answer: str = "") -> TrainingRow:
    return TrainingRow(number, words_of(text), answer)


def test_words_are_what_lies_between_anything_else() -> None:
    assert words_of("Find $\\frac{1}{2}x_1$,  the N\u00ba\u00a01!") == (
        "find",
        "frac",
        "1",
        "2",
        "x",
        "1",
        "the",
        "no",
        "1",
    )


@pytest.mark.parametrize(("kept", "hit"), [(13, True), (12, False)])
def test_thirteen_words_in_a_row_are_shared(kept: int, hit: bool) -> None:
    text = " ".join(TWENTY[:kept]) + " and then something else"
    found = compare("b", [problem(1, " ".join(TWENTY))], [row(4, text)])
    assert [pair.row for pair in found.pairs] == ([4] if hit else [])


def test_copies_changed_copies_and_answers() -> None:
    text = " ".join(TWENTY)
    rows = [row(1, text.upper().replace(" ", ",  "), "7.0"), row(2, f"{text} and more words", "8"), row(3, "other")]
    far = row(4, " ".join(TWENTY[:13]) + " x" * 40, "7")
    found = compare("b", [problem(1, text), problem(2, "nothing of this kind is asked in any row here")], [*rows, far])
    # in order: 16 of 16 + 16 words; 2 x 16 of 16 + 19; 2 x 13 of 16 + 53
    assert [(pair.row, pair.alike, pair.near, pair.same_answer) for pair in found.pairs] == [
        (1, 1.0, True, True),
        (2, 0.914, True, False),
        (4, 0.377, False, True),
    ]
    assert (found.count(), found.count(near=True), found.count(same_answer=True)) == (1, 1, 1)
    assert (found.problems, found.short) == (2, 0)


def test_a_short_problem_is_compared_whole_and_a_shorter_one_told() -> None:
    found = compare("b", [problem(1, "What is the sum of 3 and 4?"), problem(2, "Compute 3 + 4")], [
        row(1, "Tell me: what is the sum of 3 and 4 now"),
        row(2, "what is the sum of 3 and 5"),
        row(3, "compute 3 + 4"),
    ])  # fmt: skip
    assert ([(pair.problem, pair.row) for pair in found.pairs], found.short) == ([("b/1", 1)], 1)


def test_phrases_of_many_problems_are_no_evidence() -> None:
    common = " ".join(TWENTY[:13])
    problems = [problem(n, f"{common} {' '.join(f'w{n}x{k}' for k in range(13))}") for n in range(4)]
    rows = [row(1, common), row(2, " ".join(f"w2x{k}" for k in range(13)))]
    assert [(pair.problem, pair.row) for pair in compare("b", problems, rows).pairs] == [("b/2", 2)]
    assert len(compare("b", problems[:3], rows[:1]).pairs) == 3


def test_answers_in_other_spellings() -> None:
    text = " ".join(TWENTY)
    for gold, answer, same in [
        ("\\frac{1}{2}", "0.5", True),
        (["1", "2"], "1,2", True),
        ("x + 1", "$x+1$", True),
        ("x", "y", False),
        ({"tests": []}, "x", False),
        ("7", "", False),
    ]:
        [pair] = compare("b", [problem(1, text, gold)], [row(1, text, answer)]).pairs
        assert pair.same_answer is same, (gold, answer)


def test_training_rows_of_several_shapes(tmp_path: Path) -> None:
    rows = [
        {"problem": "a b", "answer": "1"},
        {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "c d"}], "solution": "\\boxed{2}"},
        {"question": "e", "answer": "so\n#### 3"},
        {"text": "f"},
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    assert read_training(path) == [
        TrainingRow(1, ("a", "b"), "1", "train.jsonl"),
        TrainingRow(2, ("c", "d"), "2", "train.jsonl"),
        TrainingRow(3, ("e",), "3", "train.jsonl"),
        TrainingRow(4, ("f",), "", "train.jsonl"),
    ]
    path.write_text('{"body": "x"}\n')
    with pytest.raises(DataError, match="train.jsonl: row 1: expected a column 'problem' or .*name its column"):
        read_training(path)
    assert read_training(path, text="body") == [TrainingRow(1, ("x",), "", "train.jsonl")]
    for bad, message in [("[1]", "row 1: expected columns and values"), ('{"prompt": ["x"]}', "or a chat's messages")]:
        path.write_text(bad)
        with pytest.raises(DataError, match=message):
            read_training(path)
    with pytest.raises(DataError, match="expected 2 or more words, found 1"):
        compare("b", [], [], n=1)


def test_pairs_are_written(tmp_path: Path) -> None:
    text = " ".join(TWENTY)
    found = [compare("b", [problem(1, text)], [row(3, text, "7")])]
    write(found, tmp_path / "a.json")
    expected = {
        "benchmark": "b",
        "problem": "b/1",
        "file": "",
        "row": 3,
        "alike": 1.0,
        "same_answer": True,
        "near": True,
    }
    assert json.loads((tmp_path / "a.json").read_text()) == [{**expected, "shared": " ".join(TWENTY[:13])}]
    write(found, tmp_path / "a.csv")
    [line] = csv.DictReader((tmp_path / "a.csv").open())
    assert (line["problem"], line["row"], line["near"]) == ("b/1", "3", "True")
    with pytest.raises(DataError, match="expected .json or .csv"):
        write(found, tmp_path / "a.txt")


def test_rows_of_a_folder_are_numbered_by_file(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"problem": "x"}\n' * 2)
    assert [(one.file, one.number) for one in read_training(tmp_path)] == [
        ("a.jsonl", 1), ("a.jsonl", 2), ("b.jsonl", 1), ("b.jsonl", 2),
    ]  # fmt: skip
    (tmp_path / "b.jsonl").write_text("[]\n")
    with pytest.raises(DataError, match=r"b\.jsonl: row 1: expected columns and values, found '\[\]'"):
        read_training(tmp_path)


def test_an_ending_that_is_not_written_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    words = ["benchmarks", "overlap", str(tmp_path / "nowhere.json"), "--out", str(tmp_path / "x.txt")]
    done = CliRunner().invoke(app, words)
    assert "x.txt: expected .json or .csv" in str(done.exception)


def test_the_command_tells_what_it_could_not_compare(shared: Path, tmp_path: Path) -> None:
    train, data = shared / "data/math/aime_1984_2023.json", shared / "data/math"
    words = ["benchmarks", "overlap", str(train), "--benchmarks", "math500,aime25,lab-code"]
    given = ["--data", f"math500={data / 'math500.json'}", "--data", f"aime25={data / 'aime25.jsonl'}"]
    done = CliRunner().invoke(app, [*words, *given, "--out", str(tmp_path / "pairs.json")])
    assert done.exit_code == 0, done.output
    assert "975 rows, 13 words in a row" in done.output
    # MATH took problems from old AIMEs; AIME 2025 is of none of these years.
    assert "math500          500 problems:   11 (2.2%) share words,    8 (1.6%) near-duplicates" in done.output
    pairs = json.loads((tmp_path / "pairs.json").read_text())
    near = [pair for pair in pairs if pair["near"]]
    assert {pair["benchmark"] for pair in near} == {"math500"}
    assert all(pair["same_answer"] for pair in near)


def test_an_overlap_counts_problems_not_pairs() -> None:
    text = " ".join(TWENTY)
    found = compare("b", [problem(1, text)], [row(n, text) for n in range(3)])
    assert isinstance(found, Overlap)
    assert (len(found.pairs), found.count()) == (3, 1)
