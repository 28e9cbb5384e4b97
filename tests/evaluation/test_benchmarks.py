"""Benchmarks: what their YAMLs pin, how rows are found and refused, and that every gold is graded right."""

from __future__ import annotations

import base64
import json
import pickle
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from archer import system as home
from archer.__main__ import app
from archer.errors import DataError
from archer.evaluation import benchmark as module
from archer.evaluation.benchmark import (
    Benchmark,
    benchmark_names,
    expand,
    faults,
    fingerprint,
    read_benchmark,
    unconfirmed,
)
from archer.evaluation.lm_eval import export as exporting
from archer.evaluation.loaded import load_benchmark, located, read_data
from archer.evaluation.pinning import PinnedBenchmark, pin, rewritten
from archer.evaluation.validate import Validation, answered, validate
from archer.problems.rows import is_local
from archer.problems.streams import read_problems
from archer.recipe.sections import DataSource
from archer.rewards.grading import Grader
from archer.sandbox.pool import Pool
from archer.types import Problem

PAPER = {
    "aime24": (30, 64), "aime25": (30, 64), "amc23": (40, 64), "math500": (500, 4), "minerva": (272, 8),
    "olympiadbench": (675, 4), "lcb-v5": (279, 8), "lcb-v6": (131, 16),
}  # fmt: skip
FILES = {
    "aime24": "math/aime24.jsonl", "aime25": "math/aime25.jsonl", "amc23": "math/amc23.jsonl",
    "math500": "math/math500.json", "minerva": "math/minerva.jsonl", "olympiadbench": "math/olympiadbench.jsonl",
    "gsm8k": "math/gsm8k.jsonl", "humaneval": "code/humaneval.jsonl", "mbpp": "code/mbpp.jsonl",
}  # fmt: skip
RUN = CliRunner()


def where(data_file: Callable[[str], Path], name: str) -> dict[str, Path]:
    return {name: data_file(FILES[name])}


def command(*words: str) -> tuple[int, str]:
    done = RUN.invoke(app, ["benchmarks", *words])
    return done.exit_code, done.output if not done.exception or done.exit_code else str(done.exception)


def refuse() -> Pool:
    raise AssertionError("no program is to run here")


@pytest.fixture
def grader() -> Iterator[Grader]:
    with Grader(workers=1, seconds=30) as one:
        yield one


# ---- what is pinned


def test_the_paper_s_benchmarks() -> None:
    for name, (problems, samples) in PAPER.items():
        one = read_benchmark(name)
        drawn = (one.sampling.temperature, one.sampling.top_p, one.sampling.top_k, one.sampling.max_tokens)
        assert (one.problems, one.samples, drawn) == (problems, samples, (0.8, 1.0, 0, 32768)), name


def test_windows_files_and_prompts() -> None:
    five, six = read_benchmark("lcb-v5").data, read_benchmark("lcb-v6").data
    assert (five.since, five.until, six.since, six.until) == ("2024-08-01", "2025-02-01", "2025-02-01", "2025-05-01")
    assert five.files == ("test.jsonl", "test2.jsonl", "test3.jsonl", "test4.jsonl", "test5.jsonl")
    assert six.files == ("test6.jsonl",)
    assert read_benchmark("aime24").data.instruction.endswith("and put your final answer within \\boxed{}.")


def test_every_benchmark_pins_or_says_what_it_does_not() -> None:
    for name in benchmark_names():
        one = read_benchmark(name)
        assert all((one.licence, one.source, one.title))
        if one.data.path:
            assert ("sha256" in one.confirm) or one.sha256
            assert ("revision" in one.confirm) == (one.data.revision is None)
            assert one.data.revision is None or re.fullmatch("[0-9a-f]{40}", one.data.revision)


def test_suites_expand_in_order_and_once() -> None:
    math = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench")
    assert expand(["minerva", "paper-math", "lcb-v6", "paper-code"]) == (
        "minerva", *(name for name in math if name != "minerva"), "lcb-v6", "lcb-v5",
    )  # fmt: skip
    with pytest.raises(DataError, match=r"no benchmark or suite 'paper-maths' \(did you mean 'paper-math'"):
        expand(["paper-maths"])


BASE = {
    "name": "b", "title": "t", "data": DataSource("b", path="org/b", revision="0" * 40), "problems": 1,
    "sha256": "a" * 64, "samples": 4, "licence": "l", "source": "s",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": ""}, "sha256: expected 64 hexadecimal digits, found ''"),
        ({"sha256": "abc", "confirm": ("sha256",)}, "found 'abc'"),
        ({"data": DataSource("b", path="org/b")}, "no revision; where it is not known yet, name it under confirm"),
    ],
)
def test_pins_that_pin_nothing(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Benchmark(**{**BASE, **changes})  # type: ignore[arg-type]


# ---- the real rows


@pytest.mark.parametrize("name", FILES)
def test_real_rows_are_as_pinned(data_file: Callable[[str], Path], name: str) -> None:
    loaded = load_benchmark(name, data=where(data_file, name))
    assert len(loaded.problems) == loaded.benchmark.problems
    assert loaded.benchmark.sha256 == fingerprint(loaded.problems)
    assert loaded.notes == tuple(unconfirmed(read_benchmark(name)))


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("humaneval", "mbpp")])
def test_every_gold_of_mathematics_is_graded_right(data_file: Callable[[str], Path], grader: Grader, name: str) -> None:
    proof = validate(name, where(data_file, name), grader, refuse)
    assert (proof.graded, proof.faults, proof.unexpected) == (proof.problems, (), [])


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_every_reference_program_earns_1(
    data_file: Callable[[str], Path], grader: Grader, sandbox: Pool, name: str
) -> None:
    proof = validate(name, where(data_file, name), grader, lambda: sandbox)
    assert (proof.graded, proof.faults, proof.failing) == (proof.problems, (), ())


@pytest.mark.parametrize("name", ["lab-arithmetic", "lab-countdown"])
def test_the_lab_s_golds(grader: Grader, name: str) -> None:
    validation = validate(name, None, grader, refuse)
    assert (validation.graded, validation.ok) == (96, True)


def test_another_copy_of_minerva_is_the_same_rows(shared: Path) -> None:
    loaded = load_benchmark("minerva", data={"minerva": shared / "data/math/minerva_with_answers.json"})
    assert (len(loaded.problems), loaded.problems[0].id) == (272, "minerva/1")


def test_public_tests_alone_are_not_livecodebench(shared: Path, grader: Grader) -> None:
    data = {"lcb-v5": shared / "data/code/livecodebench_v5_public_tests.jsonl"}
    with pytest.raises(DataError, match="lcb-v5: 279 problems come with their public tests only"):
        load_benchmark("lcb-v5", data=data)
    validation = validate("lcb-v5", data, grader, refuse)
    assert (validation.problems, validation.graded, validation.ok, len(validation.faults)) == (279, 0, False, 1)
    with pytest.raises(DataError, match="public tests only are not this benchmark; not pinned"):
        pin("lcb-v5", data)


def test_clusters_and_dates(data_file: Callable[[str], Path]) -> None:
    live = located("lcb-v5", {"lcb-v5": data_file("code/livecodebench_v5_public_tests.jsonl")})
    first = read_problems(live.data, 0)[0]
    assert (first.id, first.meta["cluster"], first.meta["date"]) == ("lcb-v5/abc365_b", "atcoder/abc365", "2024-08-03")
    amc = load_benchmark("amc23", data=where(data_file, "amc23")).problems
    assert {problem.meta["cluster"] for problem in amc} == {"2023 AMC 12A", "2023 AMC 12B"}
    aime = load_benchmark("aime24", data=where(data_file, "aime24")).problems
    assert {problem.meta["cluster"] for problem in aime} == {""}  # this copy does not say which contest


# ---- files, the hub, and what is refused


def live(name: str, day: str, private: bool = True) -> dict[str, object]:
    test = {"input": "1\n", "output": "2\n", "testtype": "stdin"}
    sealed = base64.b64encode(zlib.compress(pickle.dumps(json.dumps([test])))).decode()
    row = {
        "question_id": name, "question_content": "Double it.", "starter_code": "", "contest_date": f"{day}T00:00:00",
        "platform": "atcoder", "contest_id": "abc1", "public_test_cases": json.dumps([test]), "metadata": "{}",
    }  # fmt: skip
    return {**row, "private_test_cases": sealed} if private else row


def written(folder: Path, rows: dict[str, list[dict[str, object]]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, several in rows.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in several))
    return folder


def test_a_folder_of_livecodebench_s_files(tmp_path: Path) -> None:
    rows = {f"test{n}.jsonl": [live(f"q{n or 1}", "2024-08-01")] for n in ("", 2, 3, 4)}
    rows["test5.jsonl"] = [live("late", "2025-02-01"), live("q5", "2025-01-31"), live("early", "2024-07-31")]
    folder = written(tmp_path / "lcb", {**rows, "test6.jsonl": [live("q6", "2025-01-04")]})
    found = read_problems(located("lcb-v5", {"lcb-v5": folder}).data, 0)
    assert [problem.id for problem in found] == [f"lcb-v5/q{n}" for n in (1, 2, 3, 4, 5)]
    assert [problem.meta["private_tests"] for problem in found] == [1] * 5
    (folder / "test3.jsonl").unlink()
    with pytest.raises(DataError, match=r"no file test3.jsonl in this folder; it needs test.jsonl, test2.jsonl"):
        read_data([f"lcb-v5={folder}"])


def test_rows_without_a_checksum_are_taken_and_told(tmp_path: Path) -> None:
    rows = [live(f"q{n}", "2025-02-01") for n in range(131)]
    folder = written(tmp_path / "lcb", {"test6.jsonl": rows})
    with pytest.warns(UserWarning, match="lcb-v6: no checksum is pinned"):
        loaded = load_benchmark("lcb-v6", samples=2, data={"lcb-v6": folder})
    assert (len(loaded.problems), loaded.benchmark.samples, len(loaded.notes)) == (131, 2, 1)
    assert loaded.benchmark.sha256 == fingerprint(loaded.problems)
    with pytest.raises(DataError, match="lcb-v6: 130 problems, its YAML says 131"):
        load_benchmark("lcb-v6", data={"lcb-v6": written(tmp_path / "short", {"test6.jsonl": rows[:130]})})


def test_one_changed_row_is_refused(shared: Path, tmp_path: Path) -> None:
    text = (shared / "data/math/aime24.jsonl").read_text()
    (tmp_path / "aime24.jsonl").write_text(text.replace('"expected_answer": "73"', '"expected_answer": "74"'))
    with pytest.raises(DataError, match="the rows' sha256 is [0-9a-f]{64}, its YAML says d4c712643e72"):
        load_benchmark("aime24", data={"aime24": tmp_path / "aime24.jsonl"})
    (tmp_path / "aime24.jsonl").write_text(text.replace('"expected_answer": "73"', '"expected_answer": "073"'))
    assert len(load_benchmark("aime24", data={"aime24": tmp_path / "aime24.jsonl"}).problems) == 30


def test_the_hub_is_not_read_before_its_pins_are_confirmed() -> None:
    with pytest.raises(DataError, match="run `archer benchmarks pin minerva` first, or name a copy with --data"):
        load_benchmark("minerva")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("aime24", "expected NAME=PATH"),
        ("aime42=x.json", r"no benchmark 'aime42' .did you mean 'aime2"),
        ("aime24=nowhere.json", "no such file or folder"),
        ("lab-code=x.json", "the problems of lab-code are generated"),
    ],
)
def test_data_options(option: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_data([option])


def test_data_given_twice(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(DataError, match="aime24 is given twice; put its files into one folder"):
        read_data([f"aime24={tmp_path / 'a.json'}"] * 2)
    assert read_data([f"aime24={tmp_path}"]) == {"aime24": tmp_path}


def test_ids_must_differ() -> None:
    one = Problem("b/1", "b", "p", "math", "1")
    found = faults(Benchmark(**{**BASE, "problems": 2, "sha256": fingerprint([one, one])}), [one, one])  # type: ignore[arg-type]
    assert found == ["2 problems have 1 different ids"]


def test_every_unconfirmed_pin_is_told() -> None:
    one = Benchmark(**{**BASE, "confirm": ("revision", "sha256")})  # type: ignore[arg-type]
    assert unconfirmed(one) == [
        "b: the hub's revision is not known: the rows are those of a local copy",
        "b: sha256 is that of a local copy, not yet compared with the hub",
    ]
    assert unconfirmed(Benchmark(**{**BASE, "sha256": "", "confirm": ("sha256",)})) == []  # type: ignore[arg-type]


def test_a_benchmark_of_a_local_copy_notes_every_unconfirmed_pin(data_file: Callable[[str], Path]) -> None:
    if read_benchmark("minerva").confirm:
        assert len(load_benchmark("minerva", data=where(data_file, "minerva")).notes) == len(
            read_benchmark("minerva").confirm
        )


def test_a_folder_called_as_the_repository_is_not_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("minerva", "aime24"):  # without and with a pinned revision
        path = str(read_benchmark(name).data.path)
        (tmp_path / path).mkdir(parents=True)
        written(tmp_path / path, {"rows.jsonl": [{"problem": "a", "answer": "1", "solution": "\\boxed{1}"}]})
    monkeypatch.chdir(tmp_path)
    for name in ("minerva", "aime24"):
        assert not is_local(located(name).data)
        given = located(name, {name: Path(str(read_benchmark(name).data.path))}).data
        assert is_local(given)
        assert len(read_problems(given, 0)) == 1
    assert is_local(
        DataSource("b", path=str(read_benchmark("aime24").data.path))
    )  # a recipe's own rows, of no revision


# ---- golds that fail


def test_failing_golds_are_named_and_known_ones_told_with_their_reason() -> None:
    known = {"b/2": "cut off", "b/3": "?"}
    one = Benchmark(**{**BASE, "problems": 3, "known": known})  # type: ignore[arg-type]
    validation = Validation(one, 3, "", (), 3, (("b/1", "wrong: 'x'"), ("b/2", "unparsed: 'x='")), 0.1)
    assert validation.known == [("b/2", "unparsed: 'x='", "cut off")]
    assert validation.unexpected == ["b/1: wrong: 'x'", "b/3: its gold is graded right; take it out of `known`"]
    assert not validation.ok


def test_what_cannot_be_validated_is_named() -> None:
    whole = Validation(Benchmark(**{**BASE, "problems": 3}), 3, "a" * 64, (), 3, (), 0.1)  # type: ignore[arg-type]
    assert (whole.lacking, whole.ok) == ([], True)
    untried = replace(whole, graded=0)
    assert (untried.lacking, untried.ok) == (["no gold was tried: the data set has no reference program"], False)
    assert replace(whole, graded=1).lacking == ["2 golds were not tried: the data set has no reference program"]
    open_ = replace(whole, benchmark=replace(whole.benchmark, sha256="", confirm=("sha256",)))
    assert (open_.lacking, open_.ok) == (["no checksum is pinned"], False)


def test_a_gold_that_cannot_be_graded_is_found_among_others(grader: Grader) -> None:
    golds = ["7", "", "\\frac{1}{2}"]
    problems = [Problem(f"b/{n}", "b", "p", "math", gold) for n, gold in enumerate(golds, 1)]
    failing = answered(problems, ["\\boxed{7}", "\\boxed{8}", "\\boxed{0.5}"], grader)
    assert [name for name, _ in failing] == ["b/2"]


# ---- the commands


def test_list_tells_where_from_and_what_is_unconfirmed() -> None:
    code, text = command("list")
    assert code == 0
    assert re.search(r"minerva +272 problems x 8 +math +svc-huggingface/minerva-math@\? .*: revision, sha256", text)
    assert "paper-code     = lcb-v5 lcb-v6" in text


def test_show_prints_the_prompt_as_the_model_sees_it(shared: Path) -> None:
    path = shared / "data/math/amc23.jsonl"
    code, text = command("show", "amc23", "--problem", "1", "--model", "lab", "--data", f"amc23={path}")
    assert code == 0
    assert "title: AMC 12 2023" in text
    assert '--- reward math, gold\n"27"' in text
    rendered = text.partition("--- prompt for lab, template {}\n")[2]
    assert "Cities $A$ and $B$ are $45$ miles apart." in rendered
    assert re.search(r"--- [0-9]+ tokens", rendered)


def test_check_exits_with_1_where_anything_is_amiss(shared: Path) -> None:
    path = shared / "data/math/aime25.jsonl"
    code, text = command("check", "aime25", "--data", f"aime25={path}", "--workers", "1")
    assert code == 0, text
    assert "aime25: 30 problems, sha256 10cd0480b299d27a, as pinned; 30 of 30 golds right" in text
    assert "not yet compared with the hub: sha256" in text
    path = shared / "data/code/livecodebench_v5_public_tests.jsonl"
    code, text = command("check", "lcb-v5", "--data", f"lcb-v5={path}", "--workers", "1")
    assert code == 1
    assert "NOT as pinned\n" in text
    assert "  NOT PROVED: no gold was tried: the data set has no reference program" in text
    assert "1 of 1 benchmarks are not proved" in text


def test_path_is_for_lm_eval() -> None:
    code, text = command("path")
    assert (code, Path(text.strip()).name) == (0, "lm_eval")


# ---- pinning

YAML = """name: aime24
title: t  # a title
data:
  name: aime24
  path: org/aime  # not the hub
  format: aime
problems: 2
sha256: ""  # nobody knows
samples: 4
licence: l
source: s
confirm: [revision, sha256]
"""


def test_pins_are_written_and_all_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"problem": "b", "answer": "007"}, {"problem": "a", "answer": 8}]
    data = {"aime24": written(tmp_path / "rows", {"rows.jsonl": rows}) / "rows.jsonl"}
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "aime24.yaml").write_text(YAML)
    monkeypatch.setattr(module, "suite", lambda name: tmp_path / name)
    pinned = pin("aime24", data)
    assert (pinned.problems, pinned.before, pinned.confirmed) == (2, "", False)
    text = (folder / "aime24.yaml").read_text()
    assert text == YAML.replace('sha256: ""', f"sha256: {pinned.sha256}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_benchmark("aime24", data=data)
    assert [(problem.id, problem.prompt, problem.gold) for problem in loaded.problems] == [
        ("aime24/1", "a", "8"),
        ("aime24/2", "b", "7"),
    ]
    with pytest.raises(DataError, match="the hub does not answer for it"):
        pin("aime24")


def test_a_confirmed_pin_loses_its_confirm() -> None:
    text = rewritten(YAML, PinnedBenchmark("c" * 40, 2, "d" * 64, "", True))
    assert text == YAML.replace(
        "  path: org/aime  # not the hub", f"  path: org/aime  # not the hub\n  revision: {'c' * 40}"
    ).replace('sha256: ""', f"sha256: {'d' * 64}").replace("confirm: [revision, sha256]\n", "")
    again = rewritten(text, PinnedBenchmark("e" * 40, 2, "f" * 64, "", True))
    assert f"  revision: {'e' * 40}\n" in again
    assert f"sha256: {'f' * 64}  # nobody knows" in again


def test_other_rows_of_a_file_are_to_be_confirmed_again() -> None:
    kept = YAML.replace('sha256: ""', f"sha256: {'a' * 64}").replace("confirm: [revision, sha256]\n", "")
    same = rewritten(kept, PinnedBenchmark(None, 2, "a" * 64, "a" * 64, False))
    assert same == kept  # confirmed it was, and is
    other = rewritten(kept, PinnedBenchmark(None, 2, "d" * 64, "a" * 64, False))
    assert other == kept.replace("a" * 64, "d" * 64) + "confirm: [sha256]\n"
    half = rewritten(kept + "confirm: [revision]\n", PinnedBenchmark(None, 2, "d" * 64, "a" * 64, False))
    assert half == kept.replace("a" * 64, "d" * 64) + "confirm: [revision, sha256]\n"


@pytest.mark.parametrize(
    "layout", ["confirm:\n  - revision\n  - sha256\n", "confirm:\n- sha256\n", "confirm: [\n  sha256]\n"]
)
def test_confirm_is_taken_out_in_any_layout(layout: str) -> None:
    text = YAML.replace("confirm: [revision, sha256]\n", f"{layout}known: {{}}\n")
    found = rewritten(text, PinnedBenchmark("c" * 40, 2, "d" * 64, "", True))
    assert "confirm" not in found
    assert found.endswith("source: s\nknown: {}\n")


def test_a_layout_that_cannot_be_written_is_refused() -> None:
    begin, end = YAML.index("data:"), YAML.index("problems:")
    text = f"{YAML[:begin]}data: {{name: aime24, path: org/aime, format: aime}}\n{YAML[end:]}"
    with pytest.raises(DataError, match="put `path` and `revision` on lines of their own below `data:`"):
        rewritten(text, PinnedBenchmark("c" * 40, 2, "d" * 64, "", True))


def test_nothing_is_written_into_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "benchmarks" / "lm_eval").mkdir(parents=True)
    (tmp_path / "benchmarks" / "aime24.yaml").write_text(YAML)
    (tmp_path / "benchmarks" / "suites.yaml").write_text("paper: [aime24]\n")
    for one in (module, exporting):
        monkeypatch.setattr(one, "suite", lambda name: tmp_path / name)
    foreign = tmp_path / "benchmarks" / "lm_eval" / "mine.yaml"
    foreign.write_text("task: mine\n")
    gone = foreign.with_name("archer_gone.yaml")
    gone.write_text(exporting.HEAD.format(source="gone.yaml") + "task: archer_gone\n")
    exporting.export()
    assert (foreign.exists(), gone.exists()) == (True, False)
    monkeypatch.setattr(home, "PACKAGE", tmp_path)
    with pytest.raises(DataError, match=r"aime24.yaml: part of an installed package; `pin` writes the benchmarks of a"):
        pin("aime24", {"aime24": tmp_path / "rows.jsonl"})
    with pytest.raises(DataError, match="part of an installed package; tasks are exported from the benchmarks of a"):
        exporting.export()
