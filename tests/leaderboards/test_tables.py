"""Tables of published and measured numbers: who belongs, what is said, how it is printed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from archer.__main__ import app
from archer.errors import DataError
from archer.evaluation.benchmark import benchmark_names, read_benchmark
from archer.evaluation.statistics import Interval
from archer.leaderboards.layouts import Page, PageTable, TerminalPage, html, latex, markdown
from archer.leaderboards.paper.collect import collect, sort_out
from archer.leaderboards.paper.comparison import MeasuredLine
from archer.leaderboards.paper.export import table_csv
from archer.leaderboards.paper.noise import BenchmarkSpread
from archer.leaderboards.paper.pages import page
from archer.leaderboards.paper.specs import LoadedPart, TableSpec, read_spec, spec_names
from archer.leaderboards.paper.table import ResultTable, assemble, open_table
from archer.leaderboards.published import read_paper
from archer.runs.results import write_result
from archer.types import Json, Result, Sampling

PAPER = """
paper: arXiv 0000.00000
version: v1
title: A paper
tables:
  - key: lab
    place: Table 1
    title: The lab
    average: Avg
    columns:
      - {key: lab-code, name: Code, problems: 96, samples: 16}
      - {key: lab-arithmetic, name: Sums, problems: 96, samples: 16}
    groups:
      - name: a base
        rows:
          - {key: theirs, name: Theirs, cells: {lab-code: 50.0/60.0, lab-arithmetic: 50.0/60.0}, average: "50.0"}
          - {key: ours, name: Ours, own: true, cells: {lab-code: 52.0/62.0, lab-arithmetic: "-"}}
"""


def made(label: str, benchmark: str, counts: list[int], seed: int = 0, **changes: Json) -> Result:
    """Return a result whose problems have these numbers of right samples, over and over."""
    one = read_benchmark(benchmark)
    problems, samples = one.problems, one.samples
    outcomes = tuple(tuple(k < counts[p % len(counts)] for k in range(samples)) for p in range(problems))
    same = {"stops": "end", "tokens": 1}
    shaped = {name: ((value,) * samples,) * problems for name, value in same.items()}
    shaped["reasons"] = tuple(tuple("right" if one else "wrong" for one in row) for row in outcomes)
    result = Result(
        label=label, seed=seed, step=0, benchmark=benchmark, sha256=one.sha256, sampling=one.sampling,
        problems=tuple(f"{benchmark}-{n}" for n in range(problems)), passed=outcomes, seconds=1.0,
        provenance={}, **shaped,
    )  # fmt: skip
    return replace(result, **changes)


def put(folder: Path, *results: Result) -> Path:
    """Write results into a folder."""
    for n, one in enumerate(results):
        write_result(one, folder / one.label / f"{one.benchmark}-{one.seed}-{n}.json")
    return folder


def table_of(tmp_path: Path, *results: Result, any_sampling: bool = False) -> ResultTable:
    """Return the table of PAPER with these results."""
    (tmp_path / "paper.yaml").write_text(PAPER)
    paper = read_paper("paper", tmp_path)
    spec = TableSpec("lab", "A table", ())
    (tmp_path / "results").mkdir(exist_ok=True)
    return assemble(
        spec, [LoadedPart(paper, paper.table("lab"), True)], [put(tmp_path / "results", *results)], any_sampling
    )


HALF = [16, 0]  # half of the problems always right, the others never


def grid(found: ResultTable, title: str) -> PageTable:
    return next(one for one in page(found).grids if one.title.startswith(title))


def test_printed_and_measured_stand_side_by_side(tmp_path: Path) -> None:
    found = table_of(tmp_path, made("ours", "lab-code", HALF), made("ours", "lab-arithmetic", [8]))
    lines = {row[0]: row[1:] for row in grid(found, "Measured beside Table 1").rows}
    printed, measured, difference, rerun, words = lines["Ours Code avg@16"]
    assert (printed, difference, rerun, words) == ("52.0", "-2.0", "0.00", "inside, beyond rerun noise")
    assert re.fullmatch(r"50\.0 \[(39|40)\.\d, (59|60)\.\d\]", measured)
    assert lines["Ours Code pass@16"][0] == "62.0"
    assert lines["Ours Code pass@16"][2] == "-12.0"
    assert lines["Ours Code pass@16"][4] == "outside"
    sums = lines["Ours Sums avg@16"]  # not printed; p is 1/2 everywhere: sqrt(96 / 4 / 15) / 96 = 1.32 points
    assert (sums[0], sums[2], sums[3], sums[4]) == ("-", "-", "1.32", "-")
    assert lines["Ours mean avg@K"][1].startswith("50.0 [")
    assert lines["Ours mean avg@K"][3] == "0.66"  # half of Sums' alone


@pytest.mark.parametrize(
    ("printed", "rerun", "words"),
    [
        (50.5, 0.01, "inside, rerun noise"),
        (47.0, 0.01, "inside, beyond rerun noise"),  # 3 points; 1.96 x sqrt 2 x 1 = 2.77
        (61.0, 0.01, "outside, beyond rerun noise"),
        (61.0, None, "outside"),
        (None, 0.01, "-"),
    ],
)
def test_words_beside_print(printed: float | None, rerun: float | None, words: str) -> None:
    assert MeasuredLine("r", "c", "avg@4", Interval(0.5, 0.4, 0.6, 1, 30), printed, rerun).words == words


@pytest.mark.parametrize(("seeds", "words"), [(1, "inside, rerun noise"), (4, "inside, beyond rerun noise")])
def test_the_mean_of_seeds_varies_less_than_the_printed_run(seeds: int, words: str) -> None:
    """2.5 points; 1.96 x 1 x sqrt(1 + 1/1) = 2.77, with four seeds 1.96 x sqrt(1 + 1/4) = 2.19."""
    assert MeasuredLine("r", "c", "avg@4", Interval(0.5, 0.4, 0.6, seeds, 30), 47.5, 0.01).words == words


def test_seeds_of_a_label_combine_and_strangers_have_a_table_of_their_own(tmp_path: Path) -> None:
    mine = [made("mine", "lab-code", counts, seed) for seed, counts in enumerate([[16, 0], [16, 16], [0, 0]])]
    found = table_of(tmp_path, *mine, made("ours", "lab-code", HALF))
    assert found.strangers == ["mine"]
    assert found.measured["mine", "lab-code"].seeds == (0, 1, 2)
    rows = grid(found, "Measured, of no paper").rows
    assert [row[0] for row in rows] == ["mine Code avg@16", "mine Code pass@16"]
    assert rows[0][2].startswith("50.0 [")


def test_measured_rows_are_compared_in_pairs_with_holm(tmp_path: Path) -> None:
    found = table_of(
        tmp_path,
        made("ours", "lab-code", [12, 9]),
        made("theirs", "lab-code", [4, 1]),
        made("third", "lab-code", [4, 1]),
    )
    rows = {row[0]: row[1] for row in grid(found, "Differences between").rows}
    assert rows["theirs\nminus ours"].startswith("-50.0 [")
    assert "worse (p" in rows["theirs\nminus ours"]
    assert rows["theirs\nminus third"].startswith("+0.0 [")
    assert "cannot be told apart" in rows["theirs\nminus third"]


def test_rows_of_other_seeds_are_not_paired_and_it_is_said(tmp_path: Path) -> None:
    pairs = [("ours", (0, 1)), ("theirs", (0, 1, 2)), ("third", (0,))]
    found = table_of(tmp_path, *(made(label, "lab-code", HALF, seed) for label, seeds in pairs for seed in seeds))
    rows = {row[0]: row[1] for row in grid(found, "Differences between").rows}
    assert set(rows) == {"theirs\nminus third", "ours\nminus third"}
    notes = grid(found, "Differences between").notes
    assert "theirs and ours are not compared on lab-code: other seeds." in notes
    assert "third has one seed, set against each of the others': its training noise is in no interval." in notes


def test_months_and_curves(tmp_path: Path) -> None:
    dates = tuple("2024-08-03" if n % 2 == 0 else "2024-09-01" for n in range(96))
    contests = tuple(f"contest {n // 8}" for n in range(96))
    found = table_of(tmp_path, made("ours", "lab-code", [16, 4], dates=dates, clusters=contests))
    months = grid(found, "lab-code: avg@K by month").rows
    assert [(row[0], row[1].split(" ")[0]) for row in months] == [("2024-08 (48)", "100.0"), ("2024-09 (48)", "25.0")]
    curve = grid(found, "pass@k").rows[0]
    # pass@2 of 4 in 16: 1 - (12 x 11) / (16 x 15) = 0.45, half of the problems; the others 1
    assert curve[:3] == ("ours lab-code", "62.5", "72.5")
    assert curve[-1] == "100.0"


def test_majorities_need_recorded_answers(tmp_path: Path) -> None:
    said = (("7",) * 4 + tuple("abcdefghijkl"),) * 96  # 4 right ones against 12 wrong ones, all different
    found = table_of(tmp_path, made("ours", "lab-code", [4], answers=said), made("theirs", "lab-code", [4]))
    names = [row[0] for row in grid(found, "Measured beside").rows]
    assert "Ours Code maj@16" in names
    assert "Theirs Code maj@16" not in names
    line = next(row for row in grid(found, "Measured beside").rows if "maj" in row[0])
    assert line[2].startswith("100.0 [")


REFUSED: list[tuple[Mapping[str, Json], str]] = [
    ({"sha256": "b" * 64}, "stale or foreign: its problems' sha256 is bbbbbbbbbbbb"),
    ({"sampling": Sampling(temperature=0.6, max_tokens=192)}, r"drawn with Sampling\(temperature=0\.6"),
    ({"verifier": {"math-verify": "0.8"}}, 'judged by .*"0.8".* by a verifier that is not recorded'),
    ({"problems": tuple(f"other-{n}" for n in range(96))}, "its problems are others, or in another order"),
    ({"seed": 0, "label": "ours"}, "ours seed 0 on lab-code is in .* too; remove one"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_does_not_belong_is_refused(tmp_path: Path, changes: Mapping[str, Json], message: str) -> None:
    with pytest.raises(DataError, match=message):
        table_of(tmp_path, made("ours", "lab-code", HALF), replace(made("theirs", "lab-code", HALF, 1), **changes))


def test_a_benchmark_that_pins_no_checksum_has_one_data_set_a_table(tmp_path: Path) -> None:
    unpinned = [name for name in benchmark_names() if not read_benchmark(name).sha256]
    if not unpinned:
        pytest.skip("every benchmark pins its checksum")
    one, other = made("one", unpinned[0], [1]), made("other", unpinned[0], [1], sha256="b" * 64)
    with pytest.raises(DataError, match=r"its problems' sha256 is bbbbbbbbbbbb\.\.\., not that of"):
        sort_out(collect([put(tmp_path, one, other)]).found, unpinned[:1])


def test_a_part_of_the_problems_or_samples_is_refused(tmp_path: Path) -> None:
    whole = made("ours", "lab-code", HALF)
    names = ("problems", "passed", "scores", "reasons", "stops", "tokens")
    fewer = replace(whole, **{name: getattr(whole, name)[:90] for name in names})
    short = replace(whole, label="x", **{name: tuple(row[:8] for row in getattr(whole, name)) for name in names[1:]})
    with pytest.raises(DataError) as caught:
        table_of(tmp_path, fewer, short)
    assert "90 problems, lab-code has 96" in str(caught.value)
    assert "8 samples a problem, lab-code asks for 16" in str(caught.value)  # both at once


def test_a_row_is_one_model(tmp_path: Path) -> None:
    two = made("ours", "lab-code", HALF, weights="a" * 64), made("ours", "lab-arithmetic", HALF, weights="b" * 64)
    with pytest.raises(DataError, match=r"its weights are .*\.\.\., .* two models cannot be one row"):
        table_of(tmp_path, *two)


def test_another_sampling_is_shown_with_a_mark_where_asked_for(tmp_path: Path) -> None:
    other = made("ours", "lab-code", HALF, sampling=Sampling(temperature=0.6))
    found = grid(table_of(tmp_path, other, any_sampling=True), "Measured beside")
    assert found.rows[0][0] == "Ours Code avg@16 *"
    assert any("another sampling" in note for note in found.notes)


def test_results_are_found_anywhere_below_but_curve_points_and_manifests_are_none(tmp_path: Path) -> None:
    write_result(made("ours", "lab-code", HALF), tmp_path / "a" / "results" / "lab-code.json")
    (tmp_path / "a" / "manifest.json").write_text("{}")
    (tmp_path / "a" / "results" / "step-000010").mkdir()
    (tmp_path / "a" / "results" / "step-000010" / "lab-code.json").write_text("a part")
    found = collect([tmp_path, tmp_path / "a"]).found
    assert [one.result.label for one in found] == ["ours"]  # once, though two folders hold it
    assert collect([tmp_path / "a" / "results"]).found == found
    assert list(sort_out(found, ["lab-arithmetic"])) == []
    (tmp_path / "a" / "results" / "stray.json").write_text("{}")
    with pytest.raises(DataError, match=r"stray\.json: not a result"):
        collect([tmp_path])
    with pytest.raises(DataError, match="no such folder of results"):
        collect([tmp_path / "nowhere"])


def test_a_checkpoint_s_own_folder_is_shown_and_what_is_not_is_told(tmp_path: Path) -> None:
    runs = tmp_path / "results"  # as `archer eval` writes for a checkpoint; points are below `results` alone
    write_result(made("ours", "lab-code", HALF), runs / "eval" / "step-000100-model-0" / "results" / "lab-code.json")
    write_result(
        replace(made("ours", "lab-code", HALF), benchmark="lab-code-first-5"), runs / "part" / "results" / "x.json"
    )
    (runs / "eval" / "lm-eval").mkdir()
    (runs / "eval" / "lm-eval" / "gsm8k.json").write_text("{}")
    (runs / "checkpoints").mkdir()
    (runs / "checkpoints" / "config.json").write_text("{}")
    notes = page(table_of(tmp_path)).notes
    assert "No result of ours yet: printed numbers only." not in notes
    assert [note for note in notes if note.startswith("Left out")] == [
        f"Left out, no results of `archer eval`: {runs}/eval/lm-eval/gsm8k.json.",
        f"Left out, of what is no benchmark (lab-code-first-5): {runs}/part/results/x.json.",
    ]


def test_one_model_drawn_twice_is_no_second_training_run(tmp_path: Path) -> None:
    twice = [made("ours", "lab-code", HALF, seed, weights="a" * 64) for seed in (0, 1)]
    with pytest.raises(DataError, match=r"seed 1 of ours has the weights of .*, seed 0: the same model drawn twice"):
        table_of(tmp_path, *twice)


def test_unconfirmed_pins_are_told_beside_scores(tmp_path: Path) -> None:
    unsure = [name for name in benchmark_names() if read_benchmark(name).confirm == ("sha256",)]
    if "aime24" not in unsure:
        pytest.skip("aime24 is confirmed")
    put(tmp_path, made("archer-math-1.5b", "aime24", [64, 32, 0]))
    notes = page(open_table("paper-math", [tmp_path])).notes
    assert "aime24: sha256 is that of a local copy, not yet compared with the hub" in notes


def test_valid_cells_that_no_beta_has_borrow_the_spread_of_the_others(tmp_path: Path) -> None:
    cells = "50.0/60.0, lab-arithmetic: 50.0/60.0"
    for own in ("100.0/100.0", "0.0/0.0", "40.0/40.0", "25.0/68.5"):
        text = PAPER.replace("lab-code: 52.0/62.0", f"lab-code: {own}")
        assert cells in text
        (tmp_path / "paper.yaml").write_text(text.replace("samples: 16", "samples: 4"))
        paper = read_paper("paper", tmp_path)
        part = LoadedPart(paper, paper.table("lab"), False)
        known = {"lab-code": BenchmarkSpread(0.5, 0.6)}
        found = page(ResultTable(TableSpec("lab", "A table", ()), (part,), known, {}))
        noise = next(one for one in found.grids if one.title.startswith("Noise: Ours"))
        assert noise.rows[0][1].startswith(f"{float(own.split('/')[0]) - 50:+.1f}"), own
        assert any("no beta distribution has both numbers" in note for note in noise.notes)


def test_the_csv_holds_every_number(tmp_path: Path) -> None:
    found = table_of(tmp_path, made("ours", "lab-code", [16, 4]), made("theirs", "lab-code", [8]))
    rows = list(csv.DictReader(io.StringIO(table_csv(found))))
    by_key = {(row["source"], row["row"], row["column"], row["metric"]): row for row in rows}
    assert len(by_key) == len(rows)
    assert by_key["printed", "Theirs", "Code", "avg@16"]["value"] == "50.0"
    assert by_key["recomputed", "Theirs", "Avg", "mean"]["words"] == "follows"
    assert float(by_key["measured", "Ours", "Code", "avg@16"]["value"]) == 62.5
    assert float(by_key["measured", "ours", "lab-code", "pass@2, curve"]["value"]) == pytest.approx(72.5)
    assert {f"pass@{k}, curve" for k in range(1, 17)} <= {key[3] for key in by_key if key[1] == "ours"}
    gap = by_key["noise", "Ours minus Theirs", "Code", "gap, rerun"]
    assert float(gap["low"]) < float(gap["value"]) == 2.0 < float(gap["high"])
    assert any(row["row"].endswith("minus ours") and "Holm's p" in row["words"] for row in rows)


SAMPLE = Page(
    "A_title & <b>",
    (PageTable(("", "x_y%"), (("a|b", "1.0\n< 3 $"), ("c *", "2")), "grid #1", ("50% one",), frozenset({(0, 1)})),),
    ("last",),
)


def test_markdown_escapes_and_puts_a_cell_on_one_line() -> None:
    assert markdown(SAMPLE).splitlines() == [
        "# A\\_title & &lt;b>", "", "## grid #1", "", "|  | x\\_y% |", "| --- | --- |", "| a\\|b | **1.0 &lt; 3 $** |",
        "| c \\* | 2 |", "", "50% one", "", "## Notes", "", "last",
    ]  # fmt: skip


def test_latex_is_a_booktabs_table() -> None:
    text = latex(SAMPLE)
    for part in (
        r"\caption{grid \#1. 50\% one.}", r"\begin{tabular}{lr}", r"\toprule", r"\midrule", r"\bottomrule",
        r" & x\_y\% \\", r"\textbf{1.0 < 3 \$}", r"c * & 2 \\",
    ):  # fmt: skip
        assert part in text


def test_html_injects_no_markup() -> None:
    text = html(SAMPLE)
    assert "<title>A_title &amp; &lt;b&gt;</title>" in text
    assert "<td><b>1.0\n&lt; 3 $</b></td>" in text
    assert "<li>last</li>" in text


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit under"):
        PageTable(("a", "b"), (("1",),))


@pytest.mark.parametrize("name", spec_names())
@pytest.mark.parametrize("width", [60, 100])
def test_every_table_fits_a_terminal_without_cutting_a_cell(name: str, width: int) -> None:
    found = page(open_table(name, []))
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(TerminalPage(found))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for one in found.grids:
        for row in one.rows:
            assert all(line in text for cell in row for line in cell.splitlines())


def test_unknown_tables_are_named() -> None:
    with pytest.raises(DataError, match=r"'paper-maths' is no table \(did you mean 'paper-math'\?\)"):
        read_spec("paper-maths")


@pytest.mark.parametrize(
    ("form", "part"),
    [
        ("terminal", "! Archer-Math-4B: 67.1 printed, 67.23 recomputed from its cells"),
        ("markdown", "| Archer-Math-1.5B AIME24 avg@64 | 48.7 | 50.0 ["),
        ("csv", "measured,Table 1,DeepSeek-R1-Distill-Qwen-1.5B,Archer-Math-1.5B,AIME24,avg@64,50.0,"),
        ("latex", r"Archer-Math-1.5B AIME24 avg@64 & 48.7 & 50.0 ["),
        ("html", "<td>Archer-Math-1.5B AIME24 avg@64</td><td>48.7</td><td>50.0 ["),
    ],
)
def test_the_command_prints_published_and_measured(tmp_path: Path, form: str, part: str) -> None:
    put(tmp_path, made("archer-math-1.5b", "aime24", [64, 32, 0]))
    done = CliRunner().invoke(app, ["table", "paper-math", "--results", str(tmp_path), "--format", form])
    assert done.exit_code == 0, done.output
    assert part in done.output
    assert "No result of ours yet" not in done.output


def test_without_results_only_print_is_shown(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["table", "paper-code", "--results", str(tmp_path), "--format", "markdown"])
    assert "No result of ours yet: printed numbers only." in done.output
    assert "Measured" not in done.output


def test_one_seed_s_sampling_noise_is_averaged_as_a_variance(tmp_path: Path) -> None:
    found = table_of(tmp_path, made("ours", "lab-code", [8], 0), made("ours", "lab-code", [16], 1))
    assert found.measured["ours", "lab-code"].rerun == pytest.approx(np.sqrt((96 / 4 / 15) / 96**2 / 2))
