"""Training sets built of public problems: counts, resuming, models that answer, on rows by hand and on real files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from archer.__main__ import app
from archer.errors import DataError, EngineError, RecipeError, RunFolderError
from archer.evaluation.benchmark import read_benchmark
from archer.evaluation.evaluate import SilentWatcher
from archer.evaluation.loaded import located
from archer.problems.lab import TASKS
from archer.problems.streams import open_source
from archer.recipe.sections import DataSource
from archer.rewards.math import MathReward
from archer.runs.samples import StoredSample
from archer.tools.data import steps
from archer.tools.data import work as working
from archer.tools.data.build import DataBuild, build
from archer.tools.data.origins import placed
from archer.tools.data.pipeline import Pipeline, pipeline_names, read_pipeline
from archer.tools.data.table import closing, table
from archer.tools.data.work import BuildFolder
from archer.tools.overlap import statements


def write_rows(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def released(truth: object, prompt: str = "Add.", **more: object) -> dict:
    return {
        "data_source": "code",
        "prompt": [{"role": "user", "content": prompt}],
        "reward_model": {"style": "rule", "ground_truth": json.dumps(truth)},
        "extra_info": {"index": 7},
        **more,
    }


# ---- pipelines


def words(start: int, count: int = 20) -> str:
    return " ".join(f"w{n}" for n in range(start, start + count))


def pipeline_file(folder: Path, steps: str, instruction: str = "{prompt}") -> Path:
    path = folder / "mine.yaml"
    path.write_text(
        f"name: mine\ntitle: Mine\nreward: math\ninstruction: '{instruction}'\n"
        "sources: [{name: one, path: some/one, shape: problem-answer}, {name: two, path: some/two, shape: problem-answer}]\n"
        f"steps: {steps}\ngrading: {{workers: 1}}\n"
    )
    return path


def mine(folder: Path, steps: str, rows: list[list], instruction: str = "{prompt}") -> Pipeline:
    found = read_pipeline(str(pipeline_file(folder, steps, instruction)))
    paths = [write_rows(folder / f"{n}.jsonl", part) for n, part in enumerate(rows)]
    sources = tuple(placed(origin, str(path)) for origin, path in zip(found.sources, paths, strict=True))
    return replace(found, sources=sources)


def ask(problem: str, answer: object = "1") -> dict:
    return {"problem": problem, "answer": answer}


def three_steps(folder: Path) -> DataBuild:
    known = statements(located("lab-code"))[0].prompt  # fifteen words
    rows = [
        [ask(words(0)), ask(words(100)), ask(f"Say: {known}"), {"problem": "no answer"}, ask(words(300))],
        [ask(words(1)), ask(words(400)), [1, 2], ask("", "1")],
    ]
    pipeline = mine(
        folder, "{duplicates: {n: 5, share: 0.5}, benchmarks: {names: [lab-code]}}", rows, "{prompt} Box it."
    )
    return DataBuild(pipeline, folder / "out")


def run(asked: DataBuild) -> dict:
    with BuildFolder(asked.out, lambda text: None) as work:
        return build(asked, work, SilentWatcher())


def test_every_row_is_written_or_counted_with_its_reason(tmp_path: Path) -> None:
    asked = three_steps(tmp_path)
    manifest = run(asked)
    one, two = (manifest["sources"][name] for name in ("one", "two"))
    assert (one["rows"], one["lines"], one["dropped"]) == (5, 4, {"malformed row": 1})
    assert (two["rows"], two["lines"], two["dropped"]) == (4, 2, {"malformed row": 2})
    assert manifest["steps"]["duplicates"]["dropped"] == {"near-copy": 1}
    assert manifest["steps"]["benchmarks"]["dropped"] == {"in lab-code": 1}
    assert manifest["steps"]["benchmarks"]["problems"] == {"lab-code": 96}
    rows = [json.loads(line) for line in asked.rows.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["one/1", "one/2", "one/5", "two/2"]
    assert rows[0] == {"id": "one/1", "source": "one", "prompt": f"{words(0)} Box it.", "answer": "1"}
    assert (manifest["rows"], manifest["not_done"]) == (4, {})
    lines = (asked.out / "work" / "two.dropped.jsonl").read_text()
    assert "1.jsonl: row 3: expected columns and values" in lines
    assert "1.jsonl: row 4" in lines
    assert '"two/1"' in (asked.out / "work" / "01-duplicates.jsonl").read_text()


def test_the_rows_are_a_recipe_s_source(tmp_path: Path) -> None:
    asked = three_steps(tmp_path)
    run(asked)
    at = open_source(DataSource("mine", path=str(asked.rows), reward="math"), seed=0)
    assert {at(place).prompt for place in range(4)} == {f"{words(n)} Box it." for n in (0, 100, 300, 400)}


def test_the_table_adds_up(tmp_path: Path) -> None:
    manifest = run(three_steps(tmp_path))
    text = table(manifest, {"one": 0.25})
    assert [line.split()[:4] for line in text.splitlines()[1:]] == [
        ["one", "5", "4", "1"], ["two", "4", "2", "2"], ["duplicates", "6", "5", "1"], ["benchmarks", "5", "4", "1"],
        ["written", "4", "4", "0"],
    ]  # fmt: skip
    assert "reward: math" in closing(manifest, "mine.jsonl")
    assert "NOT" not in closing(manifest, "mine.jsonl")


def in_child(asked: DataBuild, moment: int) -> int:
    """Build in a process that is killed at its ``moment``-th line or file; return its exit status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = [moment]

    def counted(real):
        def call(*arguments):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        return call

    status = 1
    try:
        working.LineWriter.write = counted(working.LineWriter.write)
        Path.replace = counted(Path.replace)
        os.fsync = counted(os.fsync)
        run(asked)
        status = 0
    finally:
        os._exit(status)


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = statements(located("lab-code"))  # made once: every child would take its time for it
    monkeypatch.setattr(steps, "statements", lambda benchmark: known)
    asked = three_steps(tmp_path)
    whole = DataBuild(asked.pipeline, tmp_path / "whole")
    run(whole)
    for moment in range(1, 100):
        again = DataBuild(asked.pipeline, tmp_path / f"killed-{moment}")
        first = in_child(again, moment)
        if first == 0:
            break
        assert os.WIFSIGNALED(first)
        assert in_child(again, 0) == 0
        for name in ("mine.jsonl", "manifest.json"):
            assert (again.out / name).read_bytes() == (whole.out / name).read_bytes(), (moment, name)
    assert 30 < moment < 99  # every line, flush and rename was such a moment


def test_finished_stages_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = three_steps(tmp_path)
    run(asked)
    before = (asked.out / "timings.jsonl").read_text()
    run(asked)
    assert (asked.out / "timings.jsonl").read_text() == before
    changed = read_pipeline(str(tmp_path / "mine.yaml"), ["steps.duplicates.share=0.99"])
    run(DataBuild(replace(changed, sources=asked.pipeline.sources), asked.out))
    again = (asked.out / "timings.jsonl").read_text().removeprefix(before)
    assert [json.loads(line)["stage"] for line in again.splitlines()] == ["01-duplicates", "02-benchmarks", "write"]


def test_another_file_is_read_again(tmp_path: Path) -> None:
    asked = three_steps(tmp_path)
    run(asked)
    write_rows(tmp_path / "1.jsonl", [ask(words(700))])
    assert run(asked)["rows"] == 4  # three of the first, that one of the second


def test_a_folder_is_one_process_s(tmp_path: Path) -> None:
    asked = three_steps(tmp_path)
    with BuildFolder(asked.out, lambda text: None), pytest.raises(RunFolderError, match="another process builds in it"):
        run(asked)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"question_text": "1+1?"}],
            r"one: .*no row can be read as shape problem-answer; the first: .*0.jsonl: row 1: ",
        ),
        ([], "one: .*no rows"),
    ],
)
def test_a_source_of_another_shape(tmp_path: Path, rows: list, message: str) -> None:
    asked = DataBuild(mine(tmp_path, "{duplicates: {}}", [rows, [ask("1+1?")]]), tmp_path / "out")
    with pytest.raises(DataError, match=message):
        run(asked)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    rows = [[ask(words(0))], [ask(words(1))]]
    steps = "{duplicates: {n: 5}, strong: {kind: sampled, model: m, drop: [all_wrong]}}"
    manifest = run(DataBuild(mine(tmp_path, steps, rows), tmp_path / "out", skip=("two", "duplicates")))
    assert manifest["not_done"] == {
        "two": "source skipped", "duplicates": "skipped", "strong": "no --filter strong=MODEL",
    }  # fmt: skip
    assert "strong" in table(manifest, {})
    assert "NOT DONE: no --filter strong=MODEL" in table(manifest, {})
    assert closing(manifest, "x").splitlines()[-1].startswith("NOT the whole pipeline mine: two: source skipped; ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("steps.duplicates.shares=1", "unknown key 'shares'"),
        ("steps.duplicates.share=0", "expected n >= 2, 0 < share <= 1"),
        ("steps.benchmarks.names=[]", "expected names"),
        ("steps.copies={}", "no step 'copies'"),
        ("reward=code", "shape problem-answer is not for reward code"),
        ("instruction=Solve.", "{prompt} is missing"),
        ("steps.one={kind: duplicates}", "names of their own"),
        ("steps.strong={kind: sampled, model: m, drop: [all_wrong], sampling: {temperature: 0}}", "temperature"),
    ],
)
def test_a_pipeline_that_cannot_be_meant(tmp_path: Path, change: str, message: str) -> None:
    path = pipeline_file(tmp_path, "{duplicates: {}, benchmarks: {names: [lab-code]}}")
    with pytest.raises((RecipeError, DataError), match=message):
        read_pipeline(str(path), [change])


def test_the_shipped_pipelines_are_the_paper_s() -> None:
    assert pipeline_names() == ["paper-code", "paper-math"]
    code, text = read_pipeline("paper-code"), read_pipeline("paper-math")
    assert list(code.steps) == ["tests", "strong", "duplicates", "benchmarks", "base", "length"]
    assert list(text.steps) == ["duplicates", "strong", "base", "benchmarks", "length"]
    assert code.step("tests") == steps.EnoughTests(least=5)
    for found in (code, text):
        strong, base = found.step("strong"), found.step("base")
        assert isinstance(strong, steps.DropBySamples)
        assert isinstance(base, steps.DropBySamples)
        assert (strong.model, strong.samples, strong.drop) == ("Qwen/Qwen3-30B-A3B", 8, ("all_wrong",))
        assert (base.samples, base.drop) == (8, ("all_wrong", "all_right"))
        assert base.model == "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
    assert code.step("benchmarks").names == ("lcb-v5",)  # type: ignore[union-attr]
    assert text.step("benchmarks").names == ("aime24", "aime25")  # type: ignore[union-attr]
    assert text.instruction == read_benchmark("aime24").data.instruction  # trained on as evaluated


# ---- asking a model


class Stopping(SilentWatcher):
    """A watch that stops the build after some samples."""

    def __init__(self, after: int) -> None:
        self.left, self.fresh = after, 0

    def see(self, kept: StoredSample) -> None:
        self.left, self.fresh = self.left - 1, self.fresh + 1
        if self.left == 0:
            raise KeyboardInterrupt


def lab_build(folder: Path, out: str) -> DataBuild:
    rows = [ask(one.prompt, one.gold) for one in (TASKS["lab-arithmetic"].problem("train", n) for n in range(6))]
    rows.append(ask("1+1", "3"))  # wrong in every sample
    rows.append(ask("9" * 600, "1"))  # longer than the model's context
    sampling = "sampling: {max_tokens: 48, temperature: 0.7}"
    steps = f"{{strong: {{kind: sampled, model: m, samples: 4, drop: [all_wrong], {sampling}}}}}"
    pipeline = mine(folder, steps, [rows, [ask("1+2", "x")]])
    return DataBuild(pipeline, folder / out, filters={"strong": "lab"}, skip=("two",))


def test_a_model_s_samples_decide_and_a_kill_loses_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "CHUNK", 3)  # three chunks: samples 12, 12, 4
    whole = lab_build(tmp_path, "whole")
    manifest = run(whole)
    report = manifest["steps"]["strong"]
    stored = [json.loads(line) for path in sorted(whole.out.glob("work/01-strong-*/*.jsonl"))
              for line in path.read_text().splitlines()]  # fmt: skip
    golds = {
        f"one/{n + 1}": row["answer"]
        for n, row in enumerate(map(json.loads, (tmp_path / "0.jsonl").read_text().splitlines()))
    }
    right = dict.fromkeys((f"one/{n}" for n in range(1, 8)), 0)
    for sample in stored:
        if "problem" in sample:
            reward = MathReward()
            right[sample["problem"]] += reward.judge(golds[sample["problem"]], reward.extract(sample["text"])).passed
    assert report["right"] == {str(n): list(right.values()).count(n) for n in range(5)}
    assert report["dropped"]["prompt too long"] == 1
    assert report["dropped"]["none of 4 right"] == list(right.values()).count(0) >= 1
    kept = [json.loads(line)["id"] for line in whole.rows.read_text().splitlines()]
    assert kept == [name for name, count in right.items() if count]
    assert len(kept) >= 1
    assert (report["by"]["model"], report["by"]["seed"], report["by"]["samples"]) == ("lab", 0, 4)

    again = lab_build(tmp_path, "again")
    watch = Stopping(17)
    with pytest.raises(KeyboardInterrupt), BuildFolder(again.out, lambda text: None) as work:
        build(again, work, watch)
    rest = Stopping(-1)
    with BuildFolder(again.out, lambda text: None) as work:
        build(again, work, rest)
    assert (watch.fresh, rest.fresh) == (17, 28 - 17)
    for name in ("mine.jsonl", "manifest.json"):
        assert (again.out / name).read_bytes() == (whole.out / name).read_bytes()


class Serving(BaseHTTPRequestHandler):
    """An OpenAI-compatible server whose one model always answers 2."""

    def do_GET(self) -> None:
        self._say({"object": "list", "data": [{"id": "two", "object": "model", "created": 0, "owned_by": "us"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "It is \\boxed{2}."}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
        self._say(
            {"id": "x", "object": "chat.completion", "created": 0, "model": "two", "choices": [choice], "usage": usage}
        )

    def _say(self, value: dict) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None: ...


def test_a_server_answers_in_place_of_a_model(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="the server's client is not installed: pip install 'archer-rlvr[openai]'")
    server = ThreadingHTTPServer(("localhost", 0), Serving)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://localhost:{server.server_port}/v1"
    rows = [[ask("1+1?", "2"), ask("1+2?", "3"), ask("4-2?", "2.0")], [ask("9-7?", "2")]]
    steps = "{base: {kind: sampled, model: m, samples: 2, drop: [all_right]}}"
    asked = DataBuild(mine(tmp_path, steps, rows), tmp_path / "out", filters={"base": "two"}, servers={"base": url})
    report = run(asked)["steps"]["base"]
    server.shutdown()
    server.server_close()
    assert (report["right"], report["dropped"]) == ({"0": 1, "1": 0, "2": 3}, {"all of 2 right": 3})
    assert report["by"]["server"]["url"] == url
    assert [json.loads(line)["id"] for line in asked.rows.read_text().splitlines()] == ["one/2"]
    gone = replace(asked, out=tmp_path / "other")
    with pytest.raises(EngineError):
        run(gone)


@pytest.mark.sandbox
def test_programs_of_a_model_are_run(tmp_path: Path) -> None:
    if shutil.which("bwrap") is None and not os.environ.get("CI"):
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    known = [TASKS["lab-code"].problem("train", n) for n in range(4)]
    rows = [released({"inputs": ["1"], "outputs": ["2"]}, one.prompt) for one in known]
    path = tmp_path / "code.yaml"
    path.write_text(
        "name: programs\ntitle: Programs\nreward: code\nsources: [{name: one, path: some/one, shape: archer}]\n"
        "steps: {base: {kind: sampled, model: m, samples: 2, drop: [all_wrong], sampling: {max_tokens: 48}}}\n"
        "grading: {workers: 1}\n"
    )
    found = read_pipeline(str(path))
    source = placed(found.sources[0], str(write_rows(tmp_path / "a.jsonl", rows)))
    manifest = run(DataBuild(replace(found, sources=(source,)), tmp_path / "out", filters={"base": "lab"}))
    report = manifest["steps"]["base"]
    assert "NO ROWS are left" in closing(manifest, "out/programs.jsonl")
    assert report["dropped"] == {"none of 2 right": 4}  # functions of x, where the tests want a program that prints
    assert report["by"]["verifier"]["code"]["executor"] == "bubblewrap"


def test_prompts_of_too_many_tokens_are_dropped(tmp_path: Path) -> None:
    rows = [[ask("12345"), ask("123456")], [ask("1" * 50)]]  # a digit is a token; the template adds two
    asked = DataBuild(mine(tmp_path, "{length: {tokens: 7}}", rows), tmp_path / "out", filters={"length": "lab"})
    report = run(asked)["steps"]["length"]
    assert report["dropped"] == {"prompt of more than 7 tokens": 2}
    assert report["from"]["model"] == "lab"


def test_verdicts_on_other_problems_are_refused(tmp_path: Path) -> None:
    asked = lab_build(tmp_path, "out")
    run(asked)
    (path,) = asked.out.glob("work/01-strong-*/*.json")
    path.write_text('{"one/1": 4}')
    (asked.out / "work" / "01-strong.json").unlink()
    with pytest.raises(RunFolderError, match="verdicts on other problems"):
        run(asked)


# ---- the command, and real data


def test_the_command(tmp_path: Path) -> None:
    path = pipeline_file(tmp_path, "{duplicates: {n: 5}, strong: {kind: sampled, model: m, drop: [all_wrong]}}")
    rows = write_rows(tmp_path / "a.jsonl", [ask(words(0)), ask(words(1)), ask(words(50))])
    options = ["data", "build", str(path), "--out", str(tmp_path / "out"), "--skip", "two", "--data", f"one={rows}"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    assert "NOT DONE: no --filter strong=MODEL" in done.output
    assert f"{tmp_path / 'out' / 'mine.jsonl'}: 2 rows" in done.output
    assert CliRunner().invoke(app, ["data", "list"]).output.count("steps: read -> ") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--skip", "thre"], "--skip thre: no such source or step"),
        (["--data", "thre=a.jsonl"], "no 'thre' in this pipeline"),
        (["--data", "one=nowhere.jsonl"], "no such file or folder"),
        (["--filter", "duplicates=lab"], "no 'duplicates' in this pipeline"),
        (["--server", "strong=http://localhost:1/v1"], "name the model it serves with --filter strong=MODEL"),
        (["--skip", "one", "--skip", "two"], "every source is skipped"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path: Path, options: list[str], message: str) -> None:
    path = pipeline_file(tmp_path, "{duplicates: {n: 5}, strong: {kind: sampled, model: m, drop: [all_wrong]}}")
    done = CliRunner().invoke(app, ["data", "build", str(path), "--out", str(tmp_path / "out"), *options])
    assert isinstance(done.exception, DataError)
    assert message in str(done.exception)


def test_mathematics_of_real_files(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "math"
    found = read_pipeline("paper-math")
    files = {"deepscaler": data / "math_train.json", "skywork": None, "dapo": None}
    sources = tuple(placed(one, str(files[one.name])) if files[one.name] else one for one in found.sources)
    where = {"aime24": data / "aime24.jsonl", "aime25": data / "aime25.jsonl"}
    pipeline = replace(found, sources=sources)
    manifest = run(DataBuild(pipeline, tmp_path, where, skip=("skywork", "dapo")))
    source = manifest["sources"]["deepscaler"]
    assert (source["rows"], source["dropped"]) == (7474, {"malformed row": 4})  # two without an answer, two empty
    assert manifest["steps"]["benchmarks"]["problems"] == {"aime24": 30, "aime25": 30}
    assert manifest["steps"]["benchmarks"]["lines"] == 0  # older problems: no copies of 2024's and 2025's


def test_a_benchmark_among_the_rows_is_taken_out(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "math" / "aime24.jsonl"
    rows = [ask(row["problem"], row["expected_answer"]) for row in map(json.loads, path.read_text().splitlines())]
    pipeline = mine(tmp_path, "{benchmarks: {names: [aime24]}}", [rows, [ask(words(0))]])
    manifest = run(DataBuild(pipeline, tmp_path / "out", {"aime24": path}))
    assert manifest["steps"]["benchmarks"]["dropped"] == {"in aime24": 30}
    part = tmp_path / "part.jsonl"
    part.write_text("".join(path.read_text().splitlines(keepends=True)[:29]))
    with pytest.raises(DataError, match="aime24: 29 problems, its YAML says 30"):
        run(DataBuild(pipeline, tmp_path / "other", {"aime24": part}))


def test_programs_of_real_files(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "code"
    found = read_pipeline("paper-code")
    sources = (placed(found.sources[0], str(data / "code_contests_165.json")), *found.sources[1:])
    where = {"lcb-v5": data / "livecodebench_v5_public_tests.jsonl"}
    rest = tuple(one.name for one in sources[1:])
    manifest = run(DataBuild(replace(found, sources=sources), tmp_path, where, skip=rest))
    source, few = manifest["sources"]["codecontests"], manifest["steps"]["tests"]
    assert (source["rows"], source["tests"], source["dropped"]) == (165, [1837, 1529], {})
    assert few["dropped"] == {"fewer than 5 tests": 111}
    at = open_source(DataSource("code", str(tmp_path / "paper-code.jsonl"), reward="code"), seed=0)
    assert all(len(at(place).gold["tests"]) >= 5 for place in range(manifest["rows"]))
