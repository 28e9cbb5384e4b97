"""The lab: disjoint splits, texts that say what they should, a tokenizer every loader gets right."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from transformers import AutoTokenizer

from archer.errors import DataError
from archer.evaluation.benchmark import benchmark_names
from archer.evaluation.loaded import load_benchmark
from archer.problems.lab import TASKS
from archer.problems.lab.countdown import evaluate, expressions, work
from archer.rewards import REWARDS
from archer.tools.lab_tokenizer import build_tokenizer

BEST = {"lab-arithmetic": {"carry": 1.0, "columns": 0.0}, "lab-countdown": {"glance": 0.0, "search": 1.0}}


@pytest.mark.parametrize("name", TASKS)
def test_train_and_test_share_no_problem(name: str) -> None:
    train, test = ({TASKS[name].problem(split, i).prompt for i in range(2000)} for split in ("train", "test"))
    assert not train & test
    assert len(train) > 400


@pytest.mark.parametrize("name", TASKS)
def test_problems_are_the_same_in_every_process(name: str) -> None:
    expected = {
        "lab-arithmetic": "31+95",
        "lab-countdown": "3 4 7=-25",
        "lab-code": "f(0)=9 f(1)=17 f(2)=27 f(5)=69 f(20)=549",
    }
    assert TASKS[name].problem("train", 0).prompt == expected[name]


@pytest.mark.parametrize("name", ["lab-arithmetic", "lab-countdown"])
def test_the_right_method_without_noise_is_always_right(name: str) -> None:
    task = type(TASKS[name])(noise=0.0, **BEST[name])
    for index in range(300):
        problem = task.problem("test", index)
        assert REWARDS[problem.reward](problem, task.text(problem, Random(index))).reason == "right"


def test_columns_without_carry_are_right_only_where_nothing_carries() -> None:
    task = type(TASKS["lab-arithmetic"])(noise=0.0, carry=0.0, columns=1.0)
    for index in range(300):
        problem = task.problem("test", index)
        carries = any(
            int(a) + int(b) > 9
            for a, b in zip(*(n.zfill(6) for n in problem.prompt.split("+")), strict=True)
        )  # fmt: skip
        right = REWARDS["math"](problem, task.text(problem, Random(index))).passed
        assert right != carries


def test_written_evaluation_by_hand() -> None:
    assert work("6+8*2") == ["6+8*2", "6+16", "22"]
    assert work("3-4*7") == ["3-4*7", "3-28", "-25"]
    assert work("5-9-3") == ["5-9-3", "-4-3", "-7"]
    assert work("2*3*4") == ["2*3*4", "6*4", "24"]
    assert evaluate("9") == 9
    assert len(expressions([1, 2, 3])) == 9


def test_examples_determine_the_function() -> None:
    seen: dict[str, list] = {}
    for index in range(1500):
        problem = TASKS["lab-code"].problem("train", index)
        assert seen.setdefault(problem.prompt, problem.gold["tests"]) == problem.gold["tests"]


@pytest.mark.parametrize("name", TASKS)
def test_tokens_give_the_text_back_whoever_loads_the_tokenizer(name: str, tiny: Path) -> None:
    ours, theirs = build_tokenizer(), AutoTokenizer.from_pretrained(tiny)
    rng = Random(1)
    for index in range(200):
        problem = TASKS[name].problem("train", index)
        text = TASKS[name].text(problem, rng)
        for part in (problem.prompt, text):
            assert theirs.encode(part) == ours.encode(part)
            assert theirs.decode(theirs.encode(part)) == part
    assert theirs.eos_token == "<|im_end|>"


def test_any_text_survives_the_tokenizer(tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    text = "Find  the\n\n\tvalue of $\\frac{\u03c0}{2}$ \u2014 na\u00efve?  if x:\r\n    y"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_digits_and_operators_stay_single_tokens() -> None:
    tokenizer = build_tokenizer()
    assert tokenizer.tokenize("12*3=36") == ["1", "2", "*", "3", "=", "3", "6"]
    assert tokenizer.tokenize("\\boxed{7}") == ["\\boxed", "{", "7", "}"]


@pytest.mark.parametrize("name", [name for name in benchmark_names() if name in TASKS])
def test_every_benchmark_is_as_pinned(name: str) -> None:
    exam = load_benchmark(name)
    assert len({problem.prompt for problem in exam.problems}) == exam.benchmark.problems


def test_unknown_benchmark_and_unknown_split() -> None:
    with pytest.raises(DataError, match="did you mean 'lab-code'"):
        load_benchmark("lab-cod")
    with pytest.raises(ValueError, match="unknown split 'tests'"):
        TASKS["lab-code"].problem("tests", 0)
