"""Tables of a folder made by hand: literal numbers, refusals, files."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.comparisons import rewrite, write_comparison
from rich.console import Console

from archer.errors import DataError, RunFolderError
from archer.evaluation.statistics import Difference, Interval
from archer.leaderboards.legends import show, show_difference
from archer.leaderboards.ranking import BenchmarkEntry, Comparison, Standings, TrainingCost
from archer.leaderboards.standings import read_standings, render, write_tables
from archer.types import Sampling


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("comparison"))


@pytest.fixture(scope="module")
def standings(folder: Path) -> Standings:
    return read_standings(folder)


def find(standings: Standings, row: str, against: str, column: str, metric: str = "avg") -> Comparison:
    return standings.against(against, metric)[row][column]


def test_rows_columns_and_counts(standings: Standings) -> None:
    assert standings.rows == ("base", "grpo", "dapo", "archer")
    assert standings.columns == ("lab-sums", "lab-code", "mean")
    assert standings.benchmarks == (BenchmarkEntry("lab-sums", 4, 4), BenchmarkEntry("lab-code", 4, 4))
    assert standings.metric_name("pass", "mean") == "pass@4"


def test_means_by_hand(standings: Standings) -> None:
    def means(row: str, metric: str) -> list[float]:
        return [standings.cells[row, column, metric].value for column in standings.columns]

    assert means("base", "avg") == [4 / 16, 8 / 16, 6 / 16]
    assert means("grpo", "avg") == [9 / 16, 8 / 16, 8.5 / 16]
    assert means("archer", "avg") == [15.5 / 16, 2 / 16, 8.75 / 16]  # 16 and 15 right; 2 and 2
    assert means("archer", "pass") == [1.0, 1.5 / 4, 2.75 / 4]  # code: 1 and 2 of 4 problems
    cell = standings.cells["archer", "lab-sums", "avg"]
    assert (cell.seeds, cell.problems) == (2, 4)
    base = standings.cells["base", "mean", "avg"]
    assert (base.seeds, base.problems) == (1, 8)


def test_differences_by_hand_and_in_words(standings: Standings) -> None:
    sums = find(standings, "archer", "base", "lab-sums")
    assert sums.difference.value == pytest.approx(11.5 / 16)
    assert sums.words.startswith("better")
    assert sums.difference.low > 0
    equal = find(standings, "dapo", "grpo", "lab-code")
    assert equal.difference.value == 0.0
    assert equal.words == "cannot be told apart"
    assert find(standings, "grpo", "dapo", "lab-code").difference == equal.difference.mirrored()
    assert find(standings, "archer", "grpo", "mean").difference.value == pytest.approx(0.25 / 16)


def test_every_algorithm_is_compared_with_base_grpo_and_dapo_but_not_itself(standings: Standings) -> None:
    pairs = {(one.row, one.against) for one in standings.comparisons}
    assert pairs == {
        ("grpo", "base"), ("dapo", "base"), ("archer", "base"), ("dapo", "grpo"), ("archer", "grpo"),
        ("grpo", "dapo"), ("archer", "dapo"),
    }  # fmt: skip
    assert len(standings.comparisons) == 7 * 3 * 2


def test_bold_is_a_row_that_beats_all_others_in_its_column(standings: Standings) -> None:
    assert standings.bold == {("archer", "lab-sums", "avg")}


@pytest.mark.parametrize(
    ("value", "low", "high", "p", "words"),
    [
        (0.2, 0.1, 0.3, 0.01, "better"),
        (-0.2, -0.3, -0.1, 0.01, "worse"),
        (0.2, 0.01, 0.3, 0.2, "better, uncorrected"),
        (0.2, -0.01, 0.3, 0.2, "cannot be told apart"),
    ],
)
def test_words(value: float, low: float, high: float, p: float, words: str) -> None:
    assert Comparison("a", "b", "c", "avg", Difference(value, low, high, 2, 4, p), p).words == words


def test_numbers_are_compact_and_say_when_nothing_is_known() -> None:
    assert show(Interval(0.719, 0.66, 0.784, 2, 64)) == "0.72 [0.66, 0.78]"
    assert show_difference(Interval(0.35, -0.001, 0.42, 2, 64)) == "+0.35 [-0.00, +0.42]"
    unknown = Interval(0.5, float("nan"), float("nan"), 1, 1)
    assert show(unknown) == "0.50 [unknown]"
    assert show_difference(unknown) == "+0.50 [unknown]"


def test_details_and_costs(standings: Standings) -> None:
    base = standings.details["base"]
    assert (base.length, base.truncated, base.no_answer, base.limited, base.seconds) == (31, 0.25, 0.25, 0, 5)
    # Of archer's 64 responses, 16 are the last of a problem; 7 problems were solved four times.
    assert standings.details["archer"].no_answer == 9 / 64
    assert standings.costs["archer"] == TrainingCost(responses=3 * 64, seconds=3 * 3.5)  # not evaluating nor writing


def test_one_seed_says_that_training_noise_is_not_covered(tmp_path: Path) -> None:
    write_tables(read_standings(write_comparison(tmp_path, seeds=1)), tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "One training seed" in text
    assert "Training noise is NOT covered" in text


def test_markdown(standings: Standings, folder: Path) -> None:
    write_tables(standings, folder)
    text = (folder / "table.md").read_text()
    columns = [f"{name} {metric}@4" for name in ("lab-sums", "lab-code", "mean") for metric in ("avg", "pass")]
    header = f"|  | {' | '.join(columns)} |"
    assert header in text.splitlines()
    assert "**0.97 [" in text
    assert "## Difference to grpo" in text
    assert "cannot be told apart (p 1.00)" in text
    assert "lab-sums 4 x 4, lab-code 4 x 4" in text
    assert "over problems and, but for base (one model), the 2 seeds" in text
    assert "NOT covered" not in text


def test_csv_is_long_and_complete(standings: Standings, folder: Path) -> None:
    write_tables(standings, folder)
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "benchmark",
        "row",
        "metric",
        "value",
        "low",
        "high",
        "seeds",
        "problems",
        "samples",
    ]
    by_key = {(row["benchmark"], row["row"], row["metric"]): row for row in rows}
    assert len(by_key) == len(rows) == len(standings.to_pandas())
    cell = by_key["lab-sums", "archer", "avg@4"]
    assert [cell[key] for key in ("value", "seeds", "problems", "samples")] == ["0.96875", "2", "4", "4"]
    assert by_key["lab-code", "archer", "avg@4 minus grpo"]["value"] == "-0.375"
    assert by_key["all", "base", "response length"]["value"] == "31.0"


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("names", [["lab-sums"], [f"a-rather-long-benchmark-{n}" for n in range(5)]])
def test_the_terminal_tables_fit_without_cutting_a_cell(standings: Standings, names: list[str], width: int) -> None:
    entries = tuple(BenchmarkEntry(name, 4, 4) for name in names)
    columns = replace(standings, benchmarks=entries).columns
    wider = replace(
        standings,
        benchmarks=entries,
        cells={(r, c, m): standings.cells[r, "mean", m] for r, _, m in standings.cells for c in columns},
        comparisons=tuple(replace(one, column=c) for one in standings.comparisons for c in columns),
    )
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render(wider))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count(show(standings.cells["base", "mean", "avg"])) >= len(names)
    assert all(name in text for name in names)
    assert "cannot be told apart" in text


THREE = {"reasons": (("right",) * 3,) * 4, "stops": (("end",) * 3,) * 4, "tokens": ((1,) * 3,) * 4}
REFUSALS = [
    ({"sha256": "b" * 64}, "lab-code: dapo seed 1: sha256 is b"),
    ({"sampling": Sampling(temperature=0.6, max_tokens=64)}, r"sampling is Sampling\(temperature=0.6"),
    ({"verifier": {"math-verify": "0.8.0"}}, r"lab-code: dapo seed 1: verifier is .*0\.8\.0.*, not \{\}"),
    ({"problems": tuple(f"lab-code-{n}" for n in (1, 0, 2, 3))}, "problems are others or in another order"),
    ({"passed": ((True,) * 3,) * 4, "scores": ((1.0,) * 3,) * 4, **THREE}, "samples is 3, not 4"),
    ({"label": "grpo"}, "holds the result of .'grpo', 1, 'lab-code'., its path is that of .'dapo'"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSALS)
def test_results_that_cannot_be_compared_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    rewrite(write_comparison(tmp_path), "dapo", 1, "lab-code", **changes)
    with pytest.raises(DataError, match=message):
        read_standings(tmp_path)


def test_contests_widen_intervals_and_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archer.evaluation.resampling.FEWEST", 2)
    apart = read_standings(write_comparison(tmp_path))
    for row, seed in [("base", 0), *((name, seed) for name in ("grpo", "dapo", "archer") for seed in (0, 1))]:
        rewrite(tmp_path, row, seed, "lab-sums", clusters=("june", "june", "july", "july"))
    together = read_standings(tmp_path)
    cell = ("base", "lab-sums", "avg")  # 0, 1/4, 1/4, 1/2: by contest 1/8 and 3/8
    assert together.cells[cell].value == apart.cells[cell].value
    assert together.cells[cell].high > apart.cells[cell].high
    write_tables(together, tmp_path)
    assert "Problems of one contest are drawn together: lab-sums." in (tmp_path / "table.md").read_text()
    rewrite(tmp_path, "dapo", 1, "lab-sums", clusters=("june", "july", "july", "july"))
    with pytest.raises(DataError, match="lab-sums: dapo seed 1: clusters are not those of base seed 0"):
        read_standings(tmp_path)


def test_missing_seeds_are_named(tmp_path: Path) -> None:
    write_comparison(tmp_path)
    (tmp_path / "dapo/seed-1/results/lab-code.json").unlink()
    (tmp_path / "dapo/seed-0/results/lab-sums.json").unlink()
    with pytest.raises(DataError, match="dapo: seed 0 lacks lab-sums; seed 1 lacks lab-code; run the same"):
        read_standings(tmp_path)


def test_a_base_that_lacks_a_benchmark_is_refused_and_one_that_was_not_run_is_no_row(tmp_path: Path) -> None:
    write_comparison(tmp_path)
    (tmp_path / "base/results/lab-code.json").unlink()
    with pytest.raises(DataError, match="base: lacks lab-code"):
        read_standings(tmp_path)
    (tmp_path / "base/results/lab-sums.json").unlink()
    (tmp_path / "base/results").rmdir()
    (tmp_path / "base").rmdir()
    assert read_standings(tmp_path).rows == ("grpo", "dapo", "archer")


def test_curve_points_are_no_results(tmp_path: Path) -> None:
    write_comparison(tmp_path)
    place = tmp_path / "archer/seed-0/results"
    (place / "step-000002").mkdir()
    (place / "step-000002/lab-sums.json").write_text("not even a result")
    assert read_standings(tmp_path).cells["archer", "lab-sums", "avg"].value == 15.5 / 16


def test_a_damaged_result_names_its_file(tmp_path: Path) -> None:
    write_comparison(tmp_path)
    (tmp_path / "grpo/seed-0/results/lab-sums.json").write_text("{")
    with pytest.raises(DataError, match=r"grpo/seed-0/results/lab-sums\.json: not a result"):
        read_standings(tmp_path)


def test_a_folder_that_is_no_comparison_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no manifest\.json of a comparison; run `archer compare"):
        read_standings(tmp_path)
    manifest = {"algorithms": ["grpo"], "seeds": [0], "recipe": {"evaluate": {"benchmarks": []}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="benchmarks is empty"):
        read_standings(tmp_path)
    for recipe in ({"evaluate": {}}, {}, None):
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "recipe": recipe}))
        with pytest.raises(RunFolderError, match=r"manifest\.json: recipe: evaluate: benchmarks is missing"):
            read_standings(tmp_path)
