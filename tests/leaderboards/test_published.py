"""Published numbers: read whole, refused when malformed, averages recomputed, noise modelled."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from archer.errors import DataError
from archer.evaluation.difficulty import Difficulty, correlation, from_printed, from_scores, gap_variance
from archer.leaderboards.paper.noise import CORRELATION, RowGap, averaged, difficulty, gaps, own_difficulty, spreads
from archer.leaderboards.published import (
    PrintedMean,
    PublishedColumn,
    PublishedPaper,
    PublishedRow,
    odd_counts,
    paper_names,
    read_paper,
    recomputed,
    whole,
)

PRINTED = Path(__file__).parents[1] / "data" / "archer_v2_tables.md"
GOOD = """
paper: arXiv 0000.00000
version: v1
title: A paper
tables:
  - key: math
    place: Table 1
    title: Math
    average: Avg
    columns:
      - {key: aime24, name: AIME24, problems: 30, samples: 64}
      - {key: amc23, name: AMC23, problems: 40, samples: 64}
    groups:
      - name: a base
        rows:
          - {key: one, name: One, own: true, cells: {aime24: 50.0/80.0, amc23: "80.5"}, average: "65.2"}
"""


def paper(tmp_path: Path, text: str = GOOD) -> PublishedPaper:
    (tmp_path / "p.yaml").write_text(text)
    return read_paper("p", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"80.5"', "80.5", r"amc23.*found 80\.5.*\n.*in quotes"),
        ('"80.5"', '"805"', "one: amc23: '805' is not avg/pass in points"),
        ('"80.5"', "80.5/70.0", "amc23: '80.5/70.0' is not avg/pass"),  # pass@K below avg@K
        (', amc23: "80.5"', "", r"p\.yaml: math: one: lacks a cell .write '-' if none is printed.: 'amc23'"),
        ("amc23: \"80.5\"", 'amc32: "80.5"', r"one: (has an unknown cell: 'amc32'|lacks a cell)"),
        ('average: "65.2"', 'average: "about 65"', "average: 'about 65' is not a score"),
        ("own: true", "mine: true", r"unknown key 'mine'"),
        ("name: a base", "name: a base\n        problems: {aime: 3}", "a base: problems: unknown column 'aime'.*'aime24'"),
        ("version: v1", "version: [", "not readable as YAML"),
    ],
)  # fmt: skip
def test_a_malformed_table_is_refused_by_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(DataError, match=message):
        paper(tmp_path, GOOD.replace(old, new))


def test_two_rows_of_one_key_are_refused(tmp_path: Path) -> None:
    row = '          - {key: one, name: Two, cells: {aime24: "-", amc23: "-"}}\n'
    with pytest.raises(DataError, match="math: two rows have the key 'one'"):
        paper(tmp_path, GOOD + row)


def test_unknown_papers_and_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no published numbers 'archer-v3' \(did you mean 'archer-v2'\?\)"):
        read_paper("archer-v3")
    with pytest.raises(DataError, match=r"no table 'maths' \(did you mean 'math'\?\)"):
        paper(tmp_path).table("maths")


@pytest.mark.parametrize(
    ("printed", "computed", "follows", "reachable"),
    [
        ("65.2", "65.25", True, True),  # a tie may go either way
        ("65.3", "65.25", True, True),
        ("65.2", "65.26", False, True),
        ("67.1", "67.2333", False, False),
        ("67.10", "67.12", False, False),
    ],
)
def test_averages_follow_or_do_not(printed: str, computed: str, follows: bool, reachable: bool) -> None:
    mean = PrintedMean(Decimal(printed), Decimal(computed))
    assert (mean.follows, mean.reachable) == (follows, reachable)


def test_one_printed_average_of_the_paper_does_not_follow() -> None:
    wrong = [
        (name, table.key, row.key, str(mean.printed), f"{mean.computed:.2f}", mean.reachable)
        for name in paper_names()
        for table in read_paper(name).tables
        for _, row in table.rows()
        if (mean := recomputed(table, row)) and not mean.follows
    ]
    assert wrong == [
        ("archer-v2", "math", "archer-math-4b", "67.1", "67.23", False),
        ("archer-v2", "rho", "archer-math-4b", "67.1", "67.23", False),
    ]


def test_pass_at_k_must_be_a_whole_number_of_problems() -> None:
    assert whole(Decimal("83.3"), 30)  # 25 of 30
    assert not whole(Decimal("83.4"), 30)
    assert whole(Decimal("0.0"), 30)
    assert whole(Decimal("100.0"), 30)
    odd = [
        (table.key, row.key, column.key)
        for name in paper_names()
        for table in read_paper(name).tables
        for _, row, column in odd_counts(table)
    ]
    assert odd == [("lcb-v5-n4", "nemotron-1.5b", "lcb-v5"), ("code", "nemotron-1.5b", "lcb-v6")]


def test_every_cell_is_that_of_the_paper() -> None:
    told = re.findall(r"\d+\.\d/\d+\.\d", PRINTED.read_text())
    tables = read_paper("archer-v2")
    read = [row.cells[one.key] for key in ("math", "code") for _, row in tables.table(key).rows()
            for one in tables.table(key).columns]  # fmt: skip
    assert read == told
    assert len(read) == 130
    averages = {row.name: row.average for _, row in tables.table("rho").rows()}
    assert averages == {"rho = 0.7": "66.9", "rho = 0.8": "67.1", "rho = 0.9": "65.8"}


def test_the_same_model_has_the_same_numbers_in_every_table_of_a_paper() -> None:
    seen: dict[tuple[str, str], str] = {}
    for table in read_paper("archer-v2").tables:
        for _, row in table.rows():
            for column, cell in row.cells.items():
                average = cell.partition("/")[0]
                assert seen.setdefault((row.key, column), average) == average, (table.key, row.key, column)


def test_two_printed_numbers_pin_the_beta() -> None:
    """One sample more than the average: pass@2 = 1 - B(a, b+2) / B(a, b) = 1 - b (b+1) / ((a+b) (a+b+1)), by hand."""
    found = from_printed(0.5, 1 - 1 / 3, problems=100, samples=2)
    assert found.shape == pytest.approx((1.0, 1.0))  # uniform: 1 - (1 x 2) / (2 x 3)
    assert found.between == pytest.approx(1 / 12)
    assert found.within == pytest.approx(1 / 6)
    skewed = from_printed(0.25, 1 - 3 * 4 / (4 * 5), problems=100, samples=2)
    assert skewed.shape == pytest.approx((1.0, 3.0))


def test_all_solved_takes_half_a_problem_for_unsolved() -> None:
    assert from_printed(0.7, 1.0, 40, 64) == from_printed(0.7, 1 - 0.5 / 40, 40, 64)


@pytest.mark.parametrize(("average", "solved"), [(0.5, 0.4), (0.5, 0.9999999), (1.0, 1.0)])
def test_numbers_that_no_beta_has_are_refused(average: float, solved: float) -> None:
    with pytest.raises(ValueError, match="no beta distribution|needs an average above 0 and below 1"):
        from_printed(average, solved, 10**9, 4)


def test_moments_and_correlation_find_what_outcomes_were_drawn_from() -> None:
    rng = np.random.default_rng(1)
    shared_P, own_P = rng.beta(0.5, 0.5, (2, 20_000))
    other_P = np.where(rng.random(20_000) < 0.7, shared_P, own_P)
    left, right = (rng.random((20_000, 4)) < chance_P[:, None] for chance_P in (shared_P, other_P))
    found = from_scores(left)
    assert found.mean == pytest.approx(0.5, abs=0.01)
    assert found.between == pytest.approx(1 / 8, abs=0.003)
    assert correlation(left, right) == pytest.approx(0.7, abs=0.02)
    with pytest.raises(ValueError, match="1 problems x 4 samples"):
        from_scores(left[:1])


def test_aime_s_noise_is_that_of_a_simulation() -> None:
    """48.7/83.3 on 30 problems x 64 samples: about +-14 points over problems, about 0.7 when sampled anew."""
    found = from_printed(0.487, 0.833, 30, 64)
    rng = np.random.default_rng(2)
    chance_RP = rng.beta(*found.shape, (20_000, 30))
    score_RP = rng.binomial(64, chance_RP) / 64
    assert 100 * found.spread(30, 64) == pytest.approx(100 * score_RP.mean(axis=1).std(), rel=0.02)
    assert 13.5 < 196 * found.spread(30, 64) < 15
    anew = (score_RP - rng.binomial(64, chance_RP) / 64).mean(axis=1).std() / 2**0.5
    assert found.rerun(30, 64) == pytest.approx(anew, rel=0.02)
    assert 0.6 < 100 * found.rerun(30, 64) < 0.8


def test_a_gap_s_variance_by_hand() -> None:
    one = Difficulty(0.5, 0.15)  # 0.1 within
    assert gap_variance(one, one, 10, 0.0) == pytest.approx(0.3 + 0.02)
    assert gap_variance(one, one, 10, 0.8) == pytest.approx(0.06 + 0.02)
    assert gap_variance(one, one, 10, 1.0) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("value", "words", "apart"),
    [(-0.9, "rerun", False), (2.0, "inside", False), (4.0, "paired", True), (-9.0, "clear", True)],
)
def test_a_gap_is_called_by_the_smallest_noise_that_explains_it(value: float, words: str, apart: bool) -> None:
    gap = RowGap(value, unpaired=5.0, paired=3.0, rerun=1.0)
    assert (gap.words, gap.apart) == (words, apart)


def test_the_mean_s_noise_is_that_of_independent_benchmarks() -> None:
    found = averaged([RowGap(2.0, 3.0, 3.0, 0.3), RowGap(4.0, 4.0, 4.0, 0.4)])
    assert found == RowGap(3.0, 2.5, 2.5, pytest.approx(0.25))


def test_archer_and_nemotron_cannot_be_told_apart() -> None:
    paper = read_paper("archer-v2")
    table = paper.table("math")
    group = table.groups[0]
    rows = {row.key: row for row in group.rows}
    known = spreads([paper])
    found = gaps(table, group, (rows["archer-math-1.5b"], rows["nemotron-1.5b"]), known)
    assert list(found) == ["aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench", ""]
    assert not any(gap.apart for gap in found.values())
    assert found["aime24"].value == pytest.approx(0.7)
    assert 1.5 < found["aime24"].rerun < 2.2 < 8 < found["aime24"].paired < 11 < 18 < found["aime24"].unpaired < 23
    base = gaps(table, group, (rows["archer-math-1.5b"], rows["deepseek-r1-1.5b"]), known)
    assert base[""].words == "clear"


def test_a_cell_without_pass_takes_the_spread_of_the_others() -> None:
    column = PublishedColumn("lcb-v5", "LCB v5", 279, 8)
    known = spreads([read_paper("archer-v2")])
    row = PublishedRow("x", "X", {"lcb-v5": "29.4"})
    assert own_difficulty(column, row) is None
    found = difficulty(column, row, known)
    assert found is not None
    assert found.between == pytest.approx(known["lcb-v5"].share * 0.294 * 0.706)
    assert difficulty(column, row, {}) is None
    assert 0 < CORRELATION < 1
