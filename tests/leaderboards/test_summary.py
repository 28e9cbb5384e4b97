"""What a comparison's end says, from standings with literal numbers, and that it fits 80 columns."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.comparisons import write_comparison
from rich.console import Console

from archer.commands.tables import show_summary
from archer.evaluation.statistics import Difference, Interval
from archer.leaderboards.ranking import BenchmarkEntry, Comparison, Standings
from archer.leaderboards.standings import read_standings
from archer.leaderboards.summary import TerminalSummary, sentences

NAN = float("nan")
Pair = tuple[str, str, str, float, float, float, float]  # row, against, column, difference, its bounds, Holm's p


def standings(
    scores: Mapping[str, Sequence[float]], pairs: Sequence[Pair], columns: Sequence[str] = ("sums", "code", "mean"),
    seeds: int = 3,
) -> Standings:  # fmt: skip
    """Return standings of avg@16 with the given scores, a row each, and comparisons."""
    cells = {
        (row, column, "avg"): Interval(value, max(value - 0.05, 0.0), min(value + 0.05, 1.0), seeds, 96)
        for row, values in scores.items()
        for column, value in zip(columns, values, strict=True)
    }
    compared = tuple(
        Comparison(row, against, column, "avg", Difference(value, low, high, seeds, 96, p), p)
        for row, against, column, value, low, high, p in pairs
    )
    benchmarks = tuple(BenchmarkEntry(name, 96, 16) for name in columns if name != "mean")
    return Standings(tuple(scores), tuple(range(seeds)), benchmarks, cells, frozenset(), compared, {}, {})


GAINS: list[Pair] = [
    ("grpo", "base", "mean", 0.4, 0.35, 0.45, 0.002), ("archer", "base", "mean", 0.45, 0.4, 0.5, 0.002),
    ("grpo", "base", "sums", 0.4, 0.35, 0.45, 0.002), ("archer", "base", "sums", 0.5, 0.4, 0.6, 0.002),
]  # fmt: skip
SCORES = {"base": [0.3, 0.2, 0.25], "grpo": [0.7, 0.6, 0.65], "archer": [0.8, 0.6, 0.7]}


def test_better_than_base_by_how_much_and_a_pair_told_apart() -> None:
    made = standings(SCORES, [
        *GAINS,
        ("archer", "grpo", "sums", 0.1, 0.04, 0.16, 0.031), ("archer", "grpo", "code", 0.0, -0.03, 0.03, 1.0),
        ("archer", "grpo", "mean", 0.05, 0.01, 0.1, 0.06),
    ])  # fmt: skip
    assert sentences(made) == [
        "Better than base on the mean: archer +0.45 and grpo +0.40 (Holm's p 0.002 each).",
        "Told apart: archer is better than grpo on sums, 0.80 against 0.70 (Holm's p 0.031).",
    ]


def test_a_pair_not_told_apart_with_what_holm_takes_back() -> None:
    made = standings(SCORES, [
        ("grpo", "base", "mean", 0.4, 0.35, 0.45, 0.0004), ("archer", "base", "mean", 0.45, 0.4, 0.5, 0.04),
        ("archer", "grpo", "sums", 0.1, 0.01, 0.2, 0.081), ("archer", "grpo", "mean", 0.05, 0.01, 0.1, 0.2),
    ])  # fmt: skip
    assert sentences(made) == [
        "Better than base on the mean: archer +0.45 (Holm's p 0.040) and grpo +0.40 (Holm's p < 0.001).",
        "Cannot be told apart on any benchmark or the mean: grpo and archer; "
        "the nearest: archer ahead of grpo on sums, 0.80 against 0.70 (Holm's p 0.081).",
    ]


def test_all_three_ways_to_stand_to_base() -> None:
    scores = {"base": [0.25], "grpo": [0.65], "dapo": [0.26], "archer": [0.1]}
    made = standings(scores, [
        ("grpo", "base", "sums", 0.4, 0.35, 0.45, 0.003), ("dapo", "base", "sums", 0.01, -0.05, 0.07, 0.8),
        ("archer", "base", "sums", -0.15, -0.2, -0.1, 0.01),
        ("archer", "grpo", "sums", -0.55, -0.6, -0.5, 0.003), ("dapo", "grpo", "sums", -0.39, -0.45, -0.3, 0.003),
        ("grpo", "dapo", "sums", 0.39, 0.3, 0.45, 0.003), ("archer", "dapo", "sums", -0.16, -0.3, 0.02, 0.08),
    ], columns=["sums"])  # fmt: skip
    assert sentences(made) == [
        "Better than base on sums: grpo +0.40 (Holm's p 0.003).",
        "Worse than base on sums: archer -0.15 (Holm's p 0.010).",
        "Cannot be told from base on sums: dapo +0.01 (Holm's p 0.80).",
        "Told apart: grpo is better than archer on sums, 0.65 against 0.10 (Holm's p 0.003); "
        "grpo is better than dapo on sums, 0.65 against 0.26 (Holm's p 0.003).",
        "Cannot be told apart on sums: dapo and archer.",
    ]


def test_a_benchmark_that_contradicts_the_mean_is_named() -> None:
    made = standings({"base": [0.3, 0.2, 0.25], "archer": [0.8, 0.1, 0.45]}, [
        ("archer", "base", "sums", 0.5, 0.4, 0.6, 0.002), ("archer", "base", "code", -0.1, -0.15, -0.05, 0.004),
        ("archer", "base", "mean", 0.2, 0.1, 0.3, 0.002),
    ])  # fmt: skip
    assert sentences(made) == [
        "Better than base on the mean: archer +0.20 (Holm's p 0.002).",
        "Told apart: base is better than archer on code, 0.20 against 0.10 (Holm's p 0.004).",
    ]


def test_a_benchmark_that_says_more_than_the_mean_is_named() -> None:
    made = standings({"base": [0.3, 0.2, 0.25], "archer": [0.4, 0.15, 0.28]}, [
        ("archer", "base", "sums", 0.1, 0.05, 0.15, 0.01), ("archer", "base", "mean", 0.03, -0.02, 0.08, 0.4),
    ])  # fmt: skip
    assert sentences(made) == [
        "Cannot be told from base on the mean: archer +0.03 (Holm's p 0.40).",
        "Told apart: archer is better than base on sums, 0.40 against 0.30 (Holm's p 0.010).",
    ]


def test_one_seed_says_what_is_not_covered() -> None:
    made = standings({"base": [0.3], "grpo": [0.7]}, [("grpo", "base", "sums", 0.4, 0.3, 0.5, 0.01)], ["sums"], seeds=1)
    assert sentences(made) == [
        "Better than base on sums: grpo +0.40 (Holm's p 0.010).",
        "One training seed: another may differ by more than the intervals and p-values say.",
    ]


def test_without_base_the_pairs_remain() -> None:
    made = standings({"grpo": [0.7], "archer": [0.8]}, [("archer", "grpo", "sums", 0.1, 0.05, 0.15, 0.01)], ["sums"])
    assert sentences(made) == [
        "base is not among the rows, so the gain over it is unknown.",
        "Told apart: archer is better than grpo on sums, 0.80 against 0.70 (Holm's p 0.010).",
    ]


def test_one_row_has_nothing_to_be_compared_with() -> None:
    assert sentences(standings({"grpo": [0.7]}, [], ["sums"])) == [
        "grpo is the only row: there is nothing to compare it with."
    ]


def test_ties_cannot_be_told() -> None:
    made = standings({"base": [0.5], "grpo": [0.5], "dapo": [0.5]}, [
        ("grpo", "base", "sums", 0.0, -0.03, 0.03, 1.0), ("dapo", "base", "sums", 0.0, -0.03, 0.03, 1.0),
        ("dapo", "grpo", "sums", 0.0, -0.03, 0.03, 1.0), ("grpo", "dapo", "sums", 0.0, -0.03, 0.03, 1.0),
    ], columns=["sums"])  # fmt: skip
    assert sentences(made) == [
        "Cannot be told from base on sums: grpo +0.00 and dapo +0.00 (Holm's p 1.00 each).",
        "Cannot be told apart on sums: grpo and dapo.",
    ]


def test_values_that_look_alike_get_a_third_digit() -> None:
    made = standings(
        {"grpo": [0.701], "archer": [0.704]}, [("archer", "grpo", "sums", 0.003, 0.001, 0.005, 0.01)], ["sums"]
    )
    assert "archer is better than grpo on sums, 0.704 against 0.701 (Holm's p 0.010)" in sentences(made)[1]


def test_of_one_problem_the_spread_is_unknown() -> None:
    made = standings({"base": [0.0], "grpo": [1.0]}, [("grpo", "base", "sums", 1.0, NAN, NAN, NAN)], ["sums"])
    assert sentences(made) == ["Cannot be told from base on sums: grpo +1.00 (its spread is unknown)."]


def test_algorithms_without_a_test_of_each_other_are_named() -> None:
    made = standings({"base": [0.3], "archer": [0.7], "mine": [0.8]}, [
        ("archer", "base", "sums", 0.4, 0.3, 0.5, 0.01), ("mine", "base", "sums", 0.5, 0.4, 0.6, 0.01),
    ], columns=["sums"])  # fmt: skip
    assert sentences(made)[1:] == ["Not tested against each other: archer and mine; tests are against base."]
    del made.cells["base", "sums", "avg"]  # type: ignore[attr-defined]
    assert sentences(replace(made, rows=("archer", "mine"), comparisons=())) == [
        "base is not among the rows, so the gain over it is unknown.",
        "Not tested against each other: archer and mine; tests are against base, grpo and dapo.",
    ]


def test_of_many_differences_the_surest_six_are_named() -> None:
    names = [f"row{number}" for number in range(8)]
    pairs: list[Pair] = [(name, "grpo", "sums", 0.1, 0.05, 0.15, 0.01 + at / 1000) for at, name in enumerate(names)]
    made = standings({"grpo": [0.6], **{name: [0.7] for name in names}}, pairs, ["sums"])
    told = sentences(made)[1]
    assert told.count("is better than grpo") == 6
    assert "row0 is better" in told
    assert "row6" not in told
    assert told.endswith("(Holm's p 0.015); and 2 more.")


def printed(made: Standings, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width).print(TerminalSummary(made))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_three_benchmarks_and_their_mean_fit_80_columns_with_intervals() -> None:
    columns = ["lab-arithmetic", "lab-countdown", "lab-code", "mean"]
    scores = {"base": [0.4, 0.31, 0.0, 0.31], "archer": [0.98, 0.66, 0.56, 0.7]}
    lines = printed(standings(scores, [], columns), 80)
    assert lines[0] == "avg@16 [95% interval], mean over 3 training seeds"
    assert " archer  .98 [.93, 1.00]  .66 [.61, .71]  .56 [.51, .61]  .70 [.65, .75]" in lines
    assert " archer  0.98 [0.93, 1.00]  0.66 [0.61, 0.71]" in printed(standings(scores, [], columns), 120)[5]


@pytest.mark.parametrize("benchmarks", [5, 7, 8])
def test_many_benchmarks_fit_80_columns(benchmarks: int) -> None:
    columns = [*(f"bench{number}" for number in range(benchmarks)), "mean"]
    lines = printed(standings({"base": [0.4] * len(columns), "archer": [0.5] * len(columns)}, [], columns), 80)
    assert max(map(len, lines)) <= 80
    assert sum("mean" in line for line in lines[1:]) == 1
    assert any(".50" in line and "archer" in line for line in lines)
    assert any("[.45, .55]" in line for line in lines)


def test_benchmarks_of_other_k_say_so_below_their_names() -> None:
    made = standings({"base": [0.4, 0.4, 0.4]}, [])
    made = replace(made, benchmarks=(BenchmarkEntry("sums", 96, 16), BenchmarkEntry("code", 96, 4)))
    lines = printed(made, 80)
    assert lines[0].startswith("avg@K [95% interval]")
    assert lines[3].split() == ["avg@16", "avg@4", "avg@K"]


def test_a_comparison_s_folder_ends_in_a_few_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_comparison(tmp_path / "runs of mine")
    show_summary(out, read_standings(out))
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 30
    assert "avg@4 [95% interval], mean over 2 training seeds" in text
    assert text.splitlines()[-1].startswith(f"All tables: archer table '{out}'")
    assert (out / "report.html").is_file()
    assert (out / "table.md").is_file()
