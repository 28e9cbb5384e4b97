"""A benchmark whose scores are 0, 0.25 and 1, the whole way: verdicts, result files, tables; and files of before."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from archer.engines.scripted import ScriptedEngine
from archer.errors import DataError
from archer.evaluation.api import Evaluation
from archer.evaluation.benchmark import Benchmark
from archer.evaluation.evaluate import ModelUnderTest, evaluate
from archer.evaluation.loaded import LoadedBenchmark
from archer.evaluation.model import verdict_changes, with_metrics
from archer.evaluation.named_metrics import trusted_metrics
from archer.evaluation.scorecard import cells, scorecard, titles
from archer.leaderboards.layouts import markdown
from archer.leaderboards.power import setting
from archer.leaderboards.ranking import Standings
from archer.leaderboards.report import write_report
from archer.leaderboards.standings import read_standings, render, write_tables
from archer.leaderboards.summary import TerminalSummary, compact
from archer.leaderboards.tables import page
from archer.recipe.sections import DataSource
from archer.rewards.grading import Grader
from archer.runs.folder import RunWriter
from archer.runs.loaded import load_run, rows_of_result
from archer.runs.results import read_result, write_result
from archer.runs.samples import UnstoredSamples
from archer.types import Problem, Result, Sampling, Verdict

PROBLEMS = tuple(Problem(f"essays/{n}", "essays", f"write {n}", "math", "1") for n in range(4))
# Scores of 4 samples, by row and problem.
DRAWN = {
    "base": [[0, 0, 0.25, 0.25], [0, 0, 0, 0.25], [0.25, 0.25, 0.25, 0.25], [0, 0.25, 0, 1]],
    "grpo": [[0.25, 1, 1, 1], [0.25, 0.25, 0, 1], [1, 1, 1, 1], [0.25, 1, 0.25, 1]],
}
OWN = """
def middle(scores_PK, passed_PK, answers_PK):
    return sorted_middle(scores_PK)

def sorted_middle(scores_PK):
    import numpy as np
    return np.median(scores_PK, axis=1)
"""


class Scorer(Grader):
    """Takes a response for its score; 1 passes."""

    def grade(self, rollouts: Sequence, started: object = None) -> list[Verdict]:  # type: ignore[override,type-arg]
        scores = [float(rollout.text) for rollout in rollouts]
        return [
            Verdict(score, score == 1, "right" if score == 1 else "partial" if score else "wrong") for score in scores
        ]


def exam(*metrics: str) -> LoadedBenchmark:
    one = Benchmark(
        "essays", "Essays", DataSource("essays"), 4, "0" * 64, 4, "none", "nowhere", Sampling(max_tokens=8),
        metrics=metrics,
    )  # fmt: skip
    return LoadedBenchmark(one, PROBLEMS)


def drawn(row: str, loaded: LoadedBenchmark, table: Sequence[Sequence[float]] = ()) -> Result:
    """Return the evaluation of a row's scripted scores."""
    scores = table or DRAWN[row]
    engine = ScriptedEngine(lambda problem, sample: str(scores[int(problem.id[-1])][sample]))
    with Scorer(1, 5.0) as grader:
        return evaluate(engine, grader, loaded, ModelUnderTest(row, 0, 0, {}), UnstoredSamples())


def comparison(out: Path, *metrics: str) -> Standings:
    """Write the folder of a comparison of base and grpo, and return its standings."""
    out.mkdir(exist_ok=True)
    recipe = {"name": "essays", "evaluate": {"benchmarks": ["essays"], "curve_problems": 2}}
    (out / "manifest.json").write_text(json.dumps({"algorithms": ["grpo"], "seeds": [0], "recipe": recipe}))
    for row in DRAWN:
        folder = out / row if row == "base" else out / row / "seed-0"
        write_result(drawn(row, exam(*metrics)), folder / "results" / "essays.json")
    return read_standings(out)


def test_partial_scores_from_verdicts_to_tables(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    standings = comparison(tmp_path / "out", "mean", "worst@2", "pass@2", f"{tmp_path}/own.py:middle")
    values = {(row, key): standings.cells[row, "essays", key].value for row in DRAWN for key in standings.keys}
    assert standings.keys == ("avg", "worst@2", "pass@2", "middle")
    assert values["base", "avg"] == (0.5 + 0.25 + 1 + 1.25) / 16
    # The least of the 6 pairs of each problem's scores: 1, 0, 6 and 1 times 0.25.
    assert values["base", "worst@2"] == pytest.approx((0.25 / 6 + 0 + 0.25 + 0.25 / 6) / 4)
    assert values["base", "pass@2"] == pytest.approx(0.5 / 4)  # a quarter is not solved
    assert values["base", "middle"] == (0.125 + 0 + 0.25 + 0.125) / 4
    assert values["grpo", "avg"] == (3.25 + 1.5 + 4 + 2.5) / 16
    gain = standings.against("base", "avg")["grpo"]["essays"]
    assert gain.difference.value == pytest.approx((11.25 - 3) / 16)
    write_tables(standings, tmp_path / "out")
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| essays avg@4 | essays worst@2 | essays pass@2 | essays middle@4 |" in text.replace("\\_", "_")
    assert "pass@4" not in text
    assert "avg@K: mean score of the samples. worst@2: least score among k samples." in text
    assert "0.19 [" in text
    assert "middle@4" in (tmp_path / "out" / "table.csv").read_text()


def test_every_view_of_a_comparison_of_scores(tmp_path: Path) -> None:
    standings = comparison(tmp_path, "worst@k", "std")
    console = Console(width=100, record=True, file=(tmp_path / "log").open("w"))
    console.print(render(standings), TerminalSummary(standings))
    text = console.export_text()
    for part in ("worst@K [95% interval]", "Differences in std@K", "avg@4 [95% interval], one training seed"):
        assert part in text
    assert "pass@" not in text
    assert "Cannot be told" in text or "Better than base" in text
    assert "std@4" in markdown(page(standings))
    html = write_report(tmp_path, standings).read_text()
    assert "<h3>worst@K</h3>" in html
    assert "<h3>pass@K</h3>" not in html


def test_metrics_that_only_some_benchmarks_name(tmp_path: Path) -> None:
    """The mean has those that all name; a table has a dash where a column has none."""
    comparison(tmp_path, "worst@k")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["recipe"]["evaluate"]["benchmarks"] = ["essays", "letters"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for path in list(tmp_path.rglob("essays.json")):
        write_result(
            replace(read_result(path), benchmark="letters", metrics=("mean", "std")), path.with_name("letters.json")
        )
    standings = read_standings(tmp_path)
    assert standings.columns == ("essays", "letters", "mean")
    assert [tuple(standings.metrics(column)) for column in standings.columns] == [
        ("avg", "worst"),
        ("avg", "std"),
        ("avg",),
    ]
    grid = page(standings).grids[1]
    assert [row[1] for row in grid.rows] == ["avg@K", "worst@K", "std@K"]
    assert [row[3:] for row in grid.rows if row[1] == "worst@K"] == [("-", "-")]
    console = Console(width=100, record=True, file=(tmp_path / "log").open("w"))
    console.print(render(standings))
    assert "letters" in console.export_text()
    assert "<td>-</td>" in write_report(tmp_path, standings).read_text()


def test_the_scorecard_and_the_frame_show_what_the_benchmark_asks_for() -> None:
    result = drawn("base", exam("mean", "best@2"))
    assert titles([result]) == ["avg@K", "best@2"]
    row = cells(result, titles([result]))
    best = ((0.25 * 5 / 6) + 0.125 + 0.25 + (3 * 1 + 2 * 0.25) / 6) / 4
    assert (row[1], row[3]) == ("0.188", f"{best:.3f}")
    console = Console(width=110, record=True)
    console.print(scorecard([result, drawn("grpo", exam("pass@k"))]))
    assert "best@2  pass@K  maj@K" in console.export_text()
    frame = Evaluation((result,)).to_pandas()
    assert frame.loc["essays", "best@2"] == pytest.approx(best)
    assert frame.loc["essays", "avg@k"] == 0.1875
    assert frame.loc["essays", "avg@k low"] < 0.1875 < frame.loc["essays", "avg@k high"]
    assert "pass@k" not in frame
    samples = Evaluation((result,)).samples
    assert samples["score"].sum() == 3.0
    assert (
        samples["passed"].tolist()
        == samples["correct"].tolist()
        == [score == 1 for row in DRAWN["base"] for score in row]
    )


def test_a_score_that_is_no_number_is_named_with_its_problem_and_sample() -> None:
    table = [[0.0] * 4, [0.0] * 4, [0, 0.25, math.nan, 1], [0.0] * 4]
    with pytest.raises(DataError, match="essays: essays/2, sample 2: score nan is no finite number"):
        drawn("base", exam("mean"), table)


def test_scores_beyond_0_and_1_have_intervals_that_are_not_cut_there(tmp_path: Path) -> None:
    table = [[20.0, 30, 40, 50], [10, 0, 10, 20], [70, 80, 70, 80], [33, 33, 33, 33]]
    result = drawn("base", exam("mean", "worst@k"), table)
    row = Evaluation((result,)).to_pandas().loc["essays"]
    assert row["avg@k"] == pytest.approx((35 + 10 + 75 + 33) / 4)
    assert row["avg@k low"] < 38.25 < row["avg@k high"]
    assert row["avg@k high"] > 1
    assert compact(replace(read_standings_cell(tmp_path), value=10.5, low=0.25, high=20.0)) == "10.50 [.25, 20.00]"


def read_standings_cell(tmp_path: Path):  # type: ignore[no-untyped-def]
    return comparison(tmp_path / "cell", "mean").cells["base", "essays", "avg"]


# ---- files


def test_right_and_wrong_take_no_more_room_and_old_results_read_as_before(tmp_path: Path) -> None:
    table = [[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    result = drawn("base", exam("mean", "pass@k"), table)
    write_result(result, tmp_path / "new.json")
    values = json.loads((tmp_path / "new.json").read_text())
    assert "scores" not in values
    assert "metrics" not in values
    assert read_result(tmp_path / "new.json") == result
    old = {("outcomes" if name == "passed" else name): value for name, value in values.items()}
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert read_result(tmp_path / "old.json") == result
    assert result.scores[0] == (0.0, 1.0, 0.0, 1.0)
    old["outcomes"][0][0], old["reasons"][0][0] = True, "chosen"
    (tmp_path / "old.json").write_text(json.dumps(old))
    with pytest.raises(DataError, match="essays: outcomes and reasons contradict each other: only 'right' is right"):
        read_result(tmp_path / "old.json")


def test_partial_scores_and_metrics_are_written_and_read(tmp_path: Path) -> None:
    result = drawn("base", exam("mean", "worst@2"))
    write_result(result, tmp_path / "q.json")
    values = json.loads((tmp_path / "q.json").read_text())
    assert values["scores"] == DRAWN["base"]
    assert values["metrics"] == ["mean", "worst@2"]
    assert read_result(tmp_path / "q.json") == result


@pytest.mark.parametrize(
    ("passed", "reason", "message"),
    [
        (False, "right", "essays/0, sample 0 is not passed, its reason 'right'"),
        (True, "wrong", "essays/0, sample 0 is passed, its reason 'wrong'"),
        (True, "no_answer", "essays/0, sample 0 is passed, its reason 'no_answer'"),
    ],
)
def test_a_pass_and_its_reason_cannot_contradict_each_other(passed: bool, reason: str, message: str) -> None:
    result = drawn("base", exam("mean"))
    changes = {"passed": ((passed, *result.passed[0][1:]), *result.passed[1:])}
    reasons = ((reason, *result.reasons[0][1:]), *result.reasons[1:])
    with pytest.raises(DataError, match=message):
        replace(result, **changes, reasons=reasons)
    good = replace(result, passed=((True, *result.passed[0][1:]), *result.passed[1:]),
                   reasons=(("chosen", *result.reasons[0][1:]), *result.reasons[1:]))  # fmt: skip
    assert good.passed[0][0]


def test_a_finished_result_takes_the_metrics_that_its_benchmark_names_now(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    result = drawn("base", exam("mean", f"{tmp_path}/own.py:middle"))
    assert list(result.provenance["metrics"]) == [f"{tmp_path}/own.py:middle"]
    writer = RunWriter(tmp_path / "run", {})
    assert with_metrics(result, result.metrics, writer) is result
    other = with_metrics(result, ("worst@k",), writer)
    assert read_result(tmp_path / "run" / "results" / "essays.json") == other
    assert (other.metrics, other.scores) == (("worst@k",), result.scores)
    assert "metrics" not in other.provenance


def test_grading_again_tells_of_scores_that_changed() -> None:
    before, after = drawn("base", exam("mean")), drawn("grpo", exam("mean"))
    assert verdict_changes(before, after) == (
        "essays: graded again: 9 of 16 samples are now right, 0 now wrong; 14 scores are others, their mean 0.703, it "
        "was 0.188"
    )


def test_power_of_partial_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [drawn("base", exam("mean")), drawn("grpo", exam("mean"))]
    monkeypatch.setattr("archer.leaderboards.power.stored", lambda name: (results, ()))
    found = setting(exam("mean").benchmark)
    assert found.source == "2 stored results"
    assert found.difficulty.mean == pytest.approx((3 + 11.25) / 32)
    assert 0 < found.difficulty.within < 0.25
    assert found.smallest("same problems") > 0


def test_rollouts_of_any_version_have_both_names(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "rollouts").mkdir()
    rows = [{"score": 0.25, "passed": False, "reason": "partial"}, {"reward": 1.0, "correct": True, "reason": "right"}]
    for step, row in enumerate(rows):
        path = tmp_path / "rollouts" / f"{step:06d}.jsonl.gz"
        path.write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    found = load_run(tmp_path).rollouts
    assert found["score"].tolist() == found["reward"].tolist() == [0.25, 1.0]
    assert found["passed"].tolist() == found["correct"].tolist() == [False, True]


def test_a_result_s_rows_say_score_and_passed() -> None:
    row = list(rows_of_result(drawn("base", exam("mean"))))[15]
    assert (row["problem"], row["sample"], row["score"], row["passed"], row["correct"]) == (
        "essays/3",
        3,
        1.0,
        True,
        True,
    )


def test_a_result_from_elsewhere_runs_no_code_of_its_own(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef NAME(scores, passed, answers): return scores.mean(1)\n")
    result = replace(drawn("grpo", exam("mean")), metrics=("mean", f"{trap}:NAME"))
    with pytest.warns(UserWarning, match="trap.py:NAME: the file here is not the one that the result was made with"):
        assert trusted_metrics(result) == ("mean",)
    assert not (tmp_path / "ran").exists()
    source = hashlib.sha256(trap.read_bytes()).hexdigest()
    known = replace(result, provenance={"metrics": {f"{trap}:NAME": source}})
    assert trusted_metrics(known) == ("mean", f"{trap}:NAME")
    with pytest.warns(UserWarning, match="it is left out") as told:
        assert trusted_metrics(replace(known, metrics=("json.decoder:NAME", "no.such:NAME"), provenance={})) == ()
    assert len(told) == 2
