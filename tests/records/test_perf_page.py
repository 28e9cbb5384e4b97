"""The page of perf/: made of the records, its numbers those that one works out of a record by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from claims import base, claims, read_records
from common import RECORDS, spread
from page import html, markdown

STEP = "trl-grpo-32x16-20261123T1623.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one record of steps."""
    shutil.copy(RECORDS / STEP, tmp_path)
    return tmp_path


def test_a_ratio_is_taken_within_its_round(folder: Path) -> None:
    """Medians of four steps, worked out by hand: 14.8856 / 2.6393 in round 0, 12.2241 / 2.5886 in round 1."""
    record = json.loads((folder / STEP).read_text())
    tuned, default = claims("trl-grpo-32x16", record)
    assert tuned.measured == pytest.approx(((5.63988 + 4.72231) / 2, 4.72231, 5.63988), abs=1e-4)
    assert (tuned.target, tuned.met, default.target, default.met) == (2.5, True, 3.5, True)
    assert "trl-tuned / archer | 5.18 (4.72..5.64) | >= 2.5 | met |" in markdown(read_records(folder))


def test_the_page_shows_ratio_curves_settings_and_origin(folder: Path) -> None:
    made = html(read_records(folder))
    assert "<td>5.18 (4.72..5.64)</td><td>&gt;= 2.5</td>" in made
    assert "0.333984375" in made  # archer's first mean reward, in the learning curves
    assert '"gradient_checkpointing": false' in made  # what tuned TRL was told
    for fact in ("AMD EPYC", "2026-11-23 16:23", "trl 1.16.0", "b40e0876431c"):
        assert fact in made


def test_the_same_curves_show_no_difference_and_others_do(folder: Path) -> None:
    """With every reward of archer's raised by 0.2, the gap of +0.0018 becomes one of +0.2018."""
    assert "archer less trl-tuned: +0.0018" in markdown(read_records(folder))
    record = json.loads((folder / STEP).read_text())
    for one in record["measurements"]:
        one["rewards"] = [reward + 0.2 * (one["contender"] == "archer") for reward in one["rewards"]]
    (folder / STEP).write_text(json.dumps(record))
    told = markdown(read_records(folder))
    assert "archer less trl-tuned: +0.2018" in told
    assert "they differ" in told


def test_a_missed_target_is_called_missed(folder: Path) -> None:
    record = json.loads((folder / STEP).read_text())
    for one in record["measurements"]:
        for step in one["steps"]:
            step["seconds"] *= 3 if one["contender"] == "archer" else 1
    (folder / STEP).write_text(json.dumps(record))
    assert "trl-tuned / archer | 1.73 (1.57..1.88) | >= 2.5 | missed |" in markdown(read_records(folder))
    assert '<td class="missed">missed</td>' in html(read_records(folder))


def test_the_newest_record_is_shown_and_older_ones_listed(folder: Path) -> None:
    record = json.loads((folder / STEP).read_text())
    newer = "trl-grpo-32x16-20270101T000000.json"
    (folder / newer).write_text(json.dumps({**record, "date": "2027-01-01T00:00:00+00:00"}))
    assert [path.name for path, _ in read_records(folder)["trl-grpo-32x16"]] == [newer, STEP]
    made = html(read_records(folder))
    assert f"Record: {newer}" in made
    assert f'<a href="{STEP}">' in made


def test_every_kind_of_record_here_has_its_section() -> None:
    records = read_records()
    made = html(records)
    for kind, ones in records.items():
        assert f"<h2>{kind}</h2>" in made
        assert f"Record: {ones[0][0].name}" in made


def test_a_kind_without_targets_has_its_numbers(tmp_path: Path) -> None:
    """414.88, 375.52 and 407.75 programs a second."""
    shutil.copy(RECORDS / "sandbox-bubblewrap-20261124T1119.json", tmp_path)
    assert "<td>archer</td><td>407.75 (375.52..414.88)</td>" in html(read_records(tmp_path))
    assert "Of 0 targets" in markdown(read_records(tmp_path))


def test_the_committed_table_is_that_of_the_committed_records() -> None:
    """Whoever adds a record makes both anew: python perf/page.py."""
    assert (RECORDS / "README.md").read_text() == markdown(read_records())
    newest = [ones[0][0].name for ones in read_records().values()]
    shown = (RECORDS / "index.html").read_text()
    assert [name for name in newest if name not in shown] == []


def test_other_kinds_are_read_as_their_scripts_write_them() -> None:
    cold = {"against": {"archer": "trl-tuned"}, "rows": [
        {"contender": name, "round": at, "seconds": taken}
        for name, at, taken in (("archer", 1, 4.0), ("trl-tuned", 1, 16.0), ("archer", 2, 6.0), ("trl-tuned", 2, 10.0))
    ]}  # fmt: skip
    (one,) = claims("cold", cold)
    assert (one.measured, one.met) == ((0.425, 0.25, 0.6), True)  # 4 / 16 and 6 / 10

    growth = {"series": {"group": {"axis": "responses of a group", "rows": [], "exponents": {
        "update, prompt once a group": [0.2, 0.1, 0.3], "update, prompt once a response": [0.5, 0.4, 0.6],
    }}}}  # fmt: skip
    (one,) = claims("growth group", growth)
    assert (one.target, one.met) == (0.1, False)  # flat was the aim; our own padded path has none

    shape = {"tokens": 256, "hidden": 896, "vocabulary": 151936, "dtype": "torch.float32",
             "runs": [{"archer": {"seconds": 1.0}, "eager": {"seconds": 1.5}}],
             "extra bytes": {"archer": 100, "eager": 1000}}  # fmt: skip
    faster, smaller = claims("heads cpu float32", {"options": {"device": "cpu"}, "shapes": [shape]})
    assert (faster.measured.median, faster.met) == (1.5, True)
    assert (smaller.measured.median, smaller.target, smaller.met) == (0.1, 0.25, True)

    lines = [{"work": {"model": "lab", "batch": batch, "device": "cpu"}, "seconds": {"archer": [1.0], "hf-static": [3.0]}}
             for batch in (64, 256)]  # fmt: skip
    (one,) = claims("decode cpu", {"lines": lines})  # the target names batch 256
    assert (one.measured.median, one.target, one.met) == (3.0, 2.0, True)

    longest = {"rows": [{"model": "1.5B", "contender": name, "longest": tokens} for name, tokens in
                        (("archer", 9000), ("trl-tuned", 6000))]}  # fmt: skip
    (one,) = claims("longest 1.5B", longest)
    assert (one.measured.median, one.met) == (1.5, False)


def test_kinds_and_spreads() -> None:
    assert [base(kind) for kind in ("trl-grpo-32x16", "heads cuda bfloat16", "gpu-step 0.5B", "memory-ranks")] == [
        "trl", "heads", "gpu-step", "memory",
    ]  # fmt: skip
    assert str(spread([3.0, 1.0, 2.0])) == "2 (1..3)"
