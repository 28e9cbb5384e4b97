"""Evaluations: every sample once, none lost by a kill, graded again without drawing, never taken for another."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from archer.__main__ import app
from archer.engines.queue import RequestQueue
from archer.engines.scripted import ScriptedEngine
from archer.engines.stored import StoredGenerator
from archer.errors import DataError, RunFolderError, UserError
from archer.evaluation.benchmark import Benchmark
from archer.evaluation.evaluate import ModelUnderTest, SilentWatcher, evaluate
from archer.evaluation.loaded import LoadedBenchmark
from archer.evaluation.model import EvalRequest, evaluate_model, first_problems
from archer.evaluation.scorecard import cells, titles, under
from archer.evaluation.target import EvalTarget
from archer.models.loading import digest_of, files_digests, weights_digest
from archer.recipe.reading import read_recipe
from archer.recipe.rewards import reward_spec
from archer.recipe.sections import CurveSection, DataSource, ModelSection, Recipe, SamplingSection
from archer.rewards.grading import Grader
from archer.runs.folder import read_manifest
from archer.runs.results import read_result, write_result
from archer.runs.samples import SampleStore, UnstoredSamples
from archer.spec import resolve
from archer.system import write_aside
from archer.train import train
from archer.types import Problem, Result, Rollout, Sampling

ROOT = Path(__file__).parents[2]
PROBLEMS = (
    Problem("q/1", "q", "1+1=", "math", "2", meta={"cluster": "AIME I", "date": "2024-01-31"}),
    Problem("q/2", "q", "2+2=", "math", "4"),
)
EXAM = LoadedBenchmark(
    Benchmark("q", "Q", DataSource("q"), 2, "0" * 64, 3, "none", "nowhere", Sampling(max_tokens=40)), PROBLEMS
)  # fmt: skip
WHO = ModelUnderTest("model", 5, 0, {"commit": "abc"}, "weights")


def script(problem: Problem, sample: int) -> str:
    """Right at sample 0; of q/1 cut off at sample 1; without an answer at sample 2."""
    return [f"\\boxed{{{problem.gold}}}", "\\boxed{7}" + " " * 40 * (problem.id == "q/1"), "no idea"][sample]


class Recording(ScriptedEngine):
    """A script that remembers what it was asked."""

    asked: tuple[tuple[str, int, int], ...] = ()

    def generate(self, queue: RequestQueue, sampling: Sampling) -> Iterator[Rollout]:
        self.asked += tuple((request.problem.id, request.sample, request.seed) for request in queue.waiting)
        return super().generate(queue, sampling)


def run(engine: ScriptedEngine | StoredGenerator, path: Path | None = None, exam: LoadedBenchmark = EXAM) -> Result:
    with Grader(1, 5.0) as grader:
        if path is None:
            return evaluate(engine, grader, exam, WHO, UnstoredSamples())
        with SampleStore(path, {"commit": "abc"}) as store:
            return evaluate(engine, grader, exam, WHO, store)


def test_a_reward_reads_the_length_in_tokens_of_what_was_stored(tmp_path: Path) -> None:
    short = '{"limit":11,"name":"length","target":7}'
    exam = replace(EXAM, problems=tuple(replace(problem, reward=short) for problem in PROBLEMS))
    drawn = run(Recording(script), tmp_path / "s.jsonl", exam)
    assert drawn.scores == ((0.5, 0.0, 1.0), (0.5, 0.5, 1.0))
    assert same(run(Recording(script), tmp_path / "s.jsonl", exam), drawn)


def same(left: Result, right: Result) -> bool:
    return replace(left, seconds=0.0) == replace(right, seconds=0.0)


def test_a_result_says_all_that_happened() -> None:
    result = run(ScriptedEngine(script))
    assert result.passed == ((True, False, False), (True, False, False))
    assert result.scores == ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    assert result.reasons == (("right", "wrong", "no_answer"), ("right", "wrong", "no_answer"))
    assert result.stops == (("end", "length", "end"), ("end", "end", "end"))
    assert result.tokens == ((9, 40, 7), (9, 9, 7))
    assert result.answers == (("2", "7", ""), ("4", "7", ""))
    assert (result.clusters, result.dates) == (("AIME I", ""), ("2024-01-31", ""))
    assert result.weights == "weights"
    assert (
        result.prompts == "04cc4e48b81634f6146b5d05d6600965372171850830230c62c80b4229ebf8f0"
    )  # sha256 of ["1+1=", "2+2="]
    assert result.verifier["math"]["math-verify"] == "0.9.0"
    assert result.verifier["math"]["rules"] >= 2
    assert result.provenance == {"commit": "abc", "engine": {"name": "scripted"}, "drawn_by": []}


def test_a_reward_reads_how_many_tokens_a_response_has(tmp_path: Path) -> None:
    spec = reward_spec({"name": "length", "target": 10, "limit": 20})
    exam = replace(EXAM, problems=tuple(replace(problem, reward=spec) for problem in PROBLEMS))
    drawn = run(ScriptedEngine(script), tmp_path / "store.jsonl", exam)
    assert drawn.scores == ((1.0, 0.0, 1.0), (1.0, 1.0, 1.0))  # of 9, 40, 7 and 9, 9, 7 tokens
    assert same(run(ScriptedEngine(script), tmp_path / "store.jsonl", exam), drawn)  # kept samples too


def test_long_answers_are_cut() -> None:
    result = run(ScriptedEngine(lambda problem, sample: "\\boxed{" + "9" * 150 + "}"), exam=long_exam())
    assert {len(answer) for row in result.answers for answer in row} == {100}


def long_exam() -> LoadedBenchmark:
    return replace(EXAM, benchmark=replace(EXAM.benchmark, sampling=Sampling(max_tokens=400)))


def test_only_what_the_store_lacks_is_asked_for(tmp_path: Path) -> None:
    path, engine = tmp_path / "q.jsonl", Recording(script)
    whole = run(engine, path)
    assert engine.asked == tuple((name, sample, 5) for name in ("q/1", "q/2") for sample in range(3))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[3], lines[6]]) + "\n")  # of q/1 samples 0 and 2, of q/2 sample 2
    again = Recording(script)
    assert same(run(again, path), whole)
    assert again.asked == (("q/1", 1, 5), ("q/2", 0, 5), ("q/2", 1, 5))
    last = Recording(script)
    assert same(run(last, path), whole)
    assert last.asked == ()


@pytest.mark.parametrize(
    ("change", "drawn"),
    [
        (lambda: (EXAM, WHO), 0),
        (lambda: (EXAM, replace(WHO, weights="others")), 6),
        (lambda: (EXAM, replace(WHO, seed=6)), 6),
        (lambda: (long_exam(), WHO), 6),
        (lambda: (replace(EXAM, problems=(PROBLEMS[0], replace(PROBLEMS[1], prompt="4="))), WHO), 3),
        (lambda: (replace(EXAM, benchmark=replace(EXAM.benchmark, samples=2)), WHO), 0),
    ],
)
def test_a_stored_sample_is_only_taken_for_itself(tmp_path: Path, change: Callable, drawn: int) -> None:
    run(ScriptedEngine(script), tmp_path / "q.jsonl")
    exam, who = change()
    engine = Recording(script)
    with Grader(1, 5.0) as grader, SampleStore(tmp_path / "q.jsonl", {}) as store:
        evaluate(engine, grader, exam, who, store)
    assert len(engine.asked) == drawn


def test_samples_of_another_machine_are_told(tmp_path: Path) -> None:
    run(ScriptedEngine(script), tmp_path / "q.jsonl")
    with Grader(1, 5.0) as grader, SampleStore(tmp_path / "q.jsonl", {"commit": "new"}) as store:
        result = evaluate(ScriptedEngine(script), grader, EXAM, WHO, store)
    assert result.provenance["drawn_by"] == [{"commit": "abc"}]


def test_grading_again_draws_nothing(tmp_path: Path) -> None:
    recall = StoredGenerator(lambda problem: problem.prompt, {"name": "scripted"})
    with pytest.raises(DataError, match=r"--regrade: 6 samples are not in the store \(q/1 and others\)"):
        run(recall, tmp_path / "q.jsonl")
    whole = run(ScriptedEngine(script), tmp_path / "q.jsonl")
    assert same(run(recall, tmp_path / "q.jsonl"), whole)


# ---- `archer eval`, with a real model


@pytest.fixture(scope="module")
def recipe(tiny: Path) -> Recipe:
    changes = [f"model.path={tiny}", "evaluate.benchmarks=[lab-arithmetic]", "evaluate.samples=2"]
    return read_recipe("lab", [*changes, "evaluate.sampling={max_tokens: 24}", "rollout.max_concurrency=16"])


def command(tiny: Path, out: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "archer", "eval", str(tiny), "--benchmarks", "lab-arithmetic,lab-code", "--samples", "4",
        "--max-tokens", "48", "--problems", "32", "--out", str(out), "--threads", "1", "--allow-unisolated", "--set", "rollout.max_concurrency=8",
        *more,
    ]  # fmt: skip


def stored(out: Path) -> list[dict]:
    rows = [json.loads(line) for path in sorted(out.glob("samples/*")) for line in path.read_text().split("\n")[:-1]]
    return [row for row in rows if "key" in row]


def test_a_killed_evaluation_goes_on_at_the_sample(tmp_path: Path, tiny: Path) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    subprocess.run(command(tiny, unbroken), check=True, capture_output=True)
    kept = 0
    for least in (40, 160):  # in the middle of the first benchmark, then of the second
        process = subprocess.Popen(command(tiny, broken), start_new_session=True, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while (path := next(iter(broken.glob("samples/*")), None)) is None or len(lines(broken)) < least:
            assert process.poll() is None, path
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert kept < len(lines(broken)) < 256
        kept = len(lines(broken))
    done = subprocess.run(command(tiny, broken), check=True, capture_output=True, text=True)
    assert f"lab-code-first-32: {kept - 128} of 128 samples are stored, {256 - kept} are drawn" in done.stderr
    assert sorted((row["key"], row["text"]) for row in stored(broken)) == sorted(
        (row["key"], row["text"]) for row in stored(unbroken)
    )
    assert len(stored(broken)) == 256  # so none was drawn twice
    for name in ("lab-arithmetic-first-32", "lab-code-first-32"):
        left, right = ((out / "results" / f"{name}.json").read_text() for out in (broken, unbroken))
        assert without_seconds(left) == without_seconds(right)


def lines(out: Path) -> list[bytes]:
    """Complete lines of samples, sessions' lines not counted."""
    whole = [line for path in out.glob("samples/*") for line in path.read_bytes().split(b"\n")[:-1]]
    return [line for line in whole if not line.startswith(b'{"drawn_by"')]


def without_seconds(text: str) -> str:
    return json.dumps({**json.loads(text), "seconds": None})


def test_a_verdict_of_an_older_verifier_is_mended_without_the_model(tmp_path: Path, recipe: Recipe) -> None:
    asked = EvalRequest(recipe, "model", 0, tmp_path)
    (result,) = evaluate_model(asked, SilentWatcher())
    old = replace(
        result, passed=((True, True), *result.passed[1:]), scores=((1.0, 1.0), *result.scores[1:]),
        reasons=(("right", "right"), *result.reasons[1:]),
        verifier={"math": {"rules": 1}},
    )  # fmt: skip
    write_result(old, tmp_path / "results" / "lab-arithmetic.json")

    class Listening(SilentWatcher):
        heard = ""

        def say(self, text: str) -> None:
            self.heard += text

    watch = Listening()
    assert evaluate_model(asked, watch) == [old]  # finished before, but whoever asks is told
    assert "graded by {'math': {'rules': 1}}" in watch.heard
    assert "--regrade grades its samples again" in watch.heard
    (again,) = evaluate_model(replace(asked, regrade=True), watch)
    assert same(again, result)
    assert "0 of 192 samples are now right, 2 now wrong" in watch.heard


def test_another_evaluation_s_result_is_not_taken(tmp_path: Path, recipe: Recipe) -> None:
    asked = EvalRequest(recipe, "model", 0, tmp_path, problems=2)
    (part,) = evaluate_model(asked, SilentWatcher())
    assert (part.benchmark, len(part.problems)) == ("lab-arithmetic-first-2", 2)
    longer = replace(recipe, evaluate=replace(recipe.evaluate, sampling=SamplingSection(max_tokens=30)))
    with pytest.raises(RunFolderError, match="holds a result with sampling .*max_tokens=24.*choose another --out"):
        evaluate_model(replace(asked, recipe=longer), SilentWatcher())
    with pytest.raises(RunFolderError, match="holds a run with algorithm 'model', this one has 'other'"):
        evaluate_model(replace(asked, label="other"), SilentWatcher())


def test_a_part_of_a_benchmark_is_another_benchmark() -> None:
    part = first_problems(EXAM, 1)
    assert (part.benchmark.name, part.benchmark.problems) == ("q-first-1", 1)
    assert part.benchmark.sha256 != EXAM.benchmark.sha256
    assert first_problems(EXAM, 2) is EXAM
    assert first_problems(EXAM, 3) is EXAM


def test_a_shared_store_serves_several_runs(tmp_path: Path, recipe: Recipe) -> None:
    store = tmp_path / "store"
    asked = EvalRequest(recipe, "model", 0, tmp_path / "one", store=store, problems=3)
    (one,) = evaluate_model(asked, SilentWatcher())
    (other,) = evaluate_model(replace(asked, out=tmp_path / "two", label="again"), SilentWatcher())
    assert other == replace(one, label="again", seconds=other.seconds)
    assert len((store / "lab-arithmetic.jsonl").read_text().splitlines()) == 1 + 6


def test_more_samples_are_added_to_a_finished_result(tmp_path: Path, recipe: Recipe) -> None:
    asked = EvalRequest(recipe, "model", 0, tmp_path, problems=3)
    (two,) = evaluate_model(asked, SilentWatcher())
    more = replace(asked, recipe=replace(recipe, evaluate=replace(recipe.evaluate, samples=4)))
    (four,) = evaluate_model(more, SilentWatcher())
    assert (two.samples, four.samples) == (2, 4)
    for name in ("passed", "scores", "reasons", "stops", "tokens", "answers"):
        assert tuple(row[:2] for row in getattr(four, name)) == getattr(two, name)
    assert len({row["key"] for row in stored(tmp_path)}) == len(stored(tmp_path)) == 12  # 6 of them drawn before
    assert read_result(tmp_path / "results" / "lab-arithmetic-first-3.json") == four
    assert evaluate_model(more, SilentWatcher()) == [four]
    with pytest.raises(RunFolderError, match="holds a result with samples 4, this one has 2"):
        evaluate_model(asked, SilentWatcher())


def test_regrading_where_there_is_nothing_leaves_nothing(tmp_path: Path, recipe: Recipe) -> None:
    asked = EvalRequest(recipe, "model", 0, tmp_path / "typo", regrade=True)
    with pytest.raises(
        RunFolderError, match=r"--regrade: .*typo/samples/lab-arithmetic\.jsonl: no such file of samples"
    ):
        evaluate_model(asked, SilentWatcher())
    assert list(tmp_path.iterdir()) == []


def test_a_sample_belongs_to_configuration_and_tokenizer_too(tmp_path: Path, tiny: Path) -> None:
    whole = files_digests(ModelSection(str(tiny)))
    changed = {}
    for name in ("config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja", "README.md"):
        shutil.copytree(tiny, folder := tmp_path / name)
        (folder / name).open("a").write(" ")
        changed[name] = [kind for kind, one in files_digests(ModelSection(str(folder))).items() if one != whole[kind]]
    assert changed == {
        "config.json": ["config"], "generation_config.json": ["generation"], "tokenizer_config.json": ["tokenizer"],
        "chat_template.jinja": [], "README.md": [],  # the template shows in the prompts
    }  # fmt: skip


def test_samples_drawn_with_another_end_token_are_not_taken(tmp_path: Path, tiny: Path, recipe: Recipe) -> None:
    shutil.copytree(tiny, folder := tmp_path / "model")
    own = replace(recipe, model=replace(recipe.model, path=str(folder)))
    store = tmp_path / "store"
    evaluate_model(EvalRequest(own, "model", 0, tmp_path / "one", store=store, problems=2), SilentWatcher())
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": [config["eos_token_id"], 65]}))
    with pytest.raises(RunFolderError, match="holds a result with engine .*generation.*choose another --out"):
        evaluate_model(EvalRequest(own, "model", 0, tmp_path / "one", store=store, problems=2), SilentWatcher())
    again = EvalRequest(own, "model", 0, tmp_path / "two", store=store, problems=2)
    (drawn,) = evaluate_model(again, SilentWatcher())
    assert len((store / "lab-arithmetic.jsonl").read_text().splitlines()) == 2 * (1 + 4)
    assert same(evaluate_model(replace(again, regrade=True), SilentWatcher())[0], drawn)


def test_a_model_of_the_hub_is_fetched_and_found_again_without_it(tmp_path: Path, tiny: Path) -> None:
    arguments = ["me/tiny", "--benchmarks", "lab-arithmetic", "--problems", "2", "--max-tokens", "8", "--out", "out"]
    command = [sys.executable, "-m", "archer", "eval", *arguments]
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}

    def run(*more: str, **change: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], env={**environment, **change}, cwd=tmp_path, capture_output=True, text=True
        )

    with hub(tiny) as url:
        first = run(HF_ENDPOINT=url, HF_HUB_OFFLINE="0")
    assert first.returncode == 0, first.stderr
    result = read_result(tmp_path / "out" / "results" / "lab-arithmetic-first-2.json")
    assert result.weights == weights_digest(ModelSection(str(tiny)))
    again = run("--regrade", HF_HUB_OFFLINE="1")
    assert "graded again: 0 of " in again.stderr
    shutil.rmtree(tmp_path / "cache")
    gone = run("--regrade", HF_HUB_OFFLINE="1")
    assert gone.returncode == 2
    assert "--regrade: model.path: me/tiny: cannot be loaded" in gone.stderr
    assert "it needs the model's files on disk" in gone.stderr


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """A hub of one model, ``me/tiny``."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            path = folder / self.path.rpartition("/")[2]
            found = self.path.startswith("/me/tiny/resolve/main/") and path.is_file()
            data = path.read_bytes() if found else b""
            self.send_response(200 if found else 404)
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{len(data)}-{path.name}"')
            self.send_header("Content-Length", str(len(data)))
            if not found:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_GET = do_HEAD

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_stored_samples_of_a_server_that_names_no_weights_are_told(tmp_path: Path) -> None:
    class Listening(SilentWatcher):
        heard = ""

        def say(self, text: str) -> None:
            self.heard += text

    def served(root: str) -> EvalTarget:
        return EvalTarget(ScriptedEngine(script), "served: m", {"url": "http://u/v1", "model": "m", "root": root})

    assert served("/models/m").doubt == ""
    assert EvalTarget(ScriptedEngine(script), "w").doubt == ""
    who, watch = replace(WHO, doubt=served("").doubt), Listening()
    for heard in ("", "http://u/v1 does not say which weights 'm' are"):
        with Grader(1, 5.0) as grader, SampleStore(tmp_path / "q.jsonl", {}) as store:
            evaluate(ScriptedEngine(script), grader, EXAM, who, store, watch)
        assert watch.heard.startswith(heard)
        assert bool(watch.heard) == bool(heard)


# ---- results and manifests that are none


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcomes": [[True, True, False], [True, False, False]]}, "q: passes and reasons contradict each other"),
        ({"passed": [[True, True, False], [True, False, False]]}, "q: passes and reasons contradict each other: q/1"),
        ({"stops": [["end"], ["end"]]}, "q: stops are not 2 problems x 3 samples"),
        ({"tokens": [[9, "x", 7], [9, 9, 7]]}, "tokens.0.1: Input should be a valid integer.*, found 'x'$"),
        (None, "Input should be"),
    ],
)
def test_a_result_that_is_none_is_named(tmp_path: Path, change: dict | None, message: str) -> None:
    write_result(run(ScriptedEngine(script)), path := tmp_path / "q.json")
    path.write_text(json.dumps(change and {**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=rf"q\.json: not a result of `archer`: {message}") as caught:
        read_result(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[1]", "7", "{", "\udcff"])
def test_a_manifest_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, errors="surrogateescape")
    with pytest.raises(RunFolderError, match=r"manifest\.json: damaged \(.*choose another --out"):
        read_manifest(tmp_path)


def test_what_is_written_replaces_the_file_whole(tmp_path: Path) -> None:
    for content in ("one: \u2028", b"two"):
        write_aside(tmp_path / "new" / "a.json", content)
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "new").iterdir()] == [("a.json", b"two")]


# ---- options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "--benchmarks", "lab-code"], "MODEL '': name a folder, a hub name, `lab`"),
        (["m", "--server", "http://u/v1", "--context", "9"], "--context: what --server serves has its own"),
        (["lab", "--label", "a/b"], "--label 'a/b': expected a plain name"),
        (["lab", "--label", ""], "--label '': expected a plain name"),
        (["lab", "--label", ".."], r"--label '\.\.': expected a plain name"),
        (["lab", "--label", "a|b"], r"--label 'a\|b': expected a plain name"),
        (["lab", "--temperature", "inf"], "--temperature inf: expected a number"),
        (["lab", "--data", f"aime24={__file__}l"], "--data aime24=.*: no such file"),
        (["m1/../nothere"], "model.path: m1/../nothere: cannot be loaded"),
    ],
)
def test_a_value_that_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(app, ["eval", *arguments], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_rows_of_a_benchmark_not_asked_for_are_refused(tmp_path: Path) -> None:
    (rows := tmp_path / "rows.jsonl").write_text("")
    arguments = ["eval", "lab", "--data", f"aime24={rows}", "--benchmarks", "lab-code", "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"--data aime24: not among the benchmarks asked for \(lab-code\)"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_weights_are_named_by_what_sha256sum_says(tiny: Path) -> None:
    said = subprocess.run(["sha256sum", tiny / "model.safetensors"], capture_output=True, text=True, check=True)
    assert weights_digest(ModelSection(str(tiny))) == said.stdout.split()[0]


def test_a_server_s_answers_are_not_a_training_run_s(recipe: Recipe) -> None:
    served = replace(recipe, evaluate=replace(recipe.evaluate, server="http://localhost:1/v1"))
    with pytest.raises(UserError, match="answers with its own weights, not with those of the run"):
        resolve(served, "grpo")


def test_a_trained_model_s_result_names_its_weights_and_keeps_its_samples(tmp_path: Path, recipe: Recipe) -> None:
    rollout = replace(recipe.rollout, prompts=2, samples_per_prompt=2, max_tokens=16)
    plan = replace(recipe.evaluate, during_training=CurveSection(1, 2, 1))
    short = replace(recipe, steps=1, rollout=rollout, evaluate=plan, update=replace(recipe.update, mini_batch=2))
    train(short, "grpo", 0, tmp_path, allow_unisolated=True)
    result = read_result(tmp_path / "results" / "lab-arithmetic.json")
    assert result.weights == digest_of(tmp_path / "checkpoints" / "step-000001")
    assert result.verifier["math"]["rules"] >= 2
    assert len(result.prompts) == 64
    assert {row["problem"] for row in stored(tmp_path)} == set(result.problems)
    assert read_result(tmp_path / "results" / "step-000001" / "lab-arithmetic.json").weights == ""


def test_real_problems_go_through_every_step(tmp_path: Path, tiny: Path, shared: Path) -> None:
    data = [f"aime24={shared}/data/math/aime24.jsonl", f"humaneval={shared}/data/code/humaneval.jsonl"]
    options = [option for one in data for option in ("--data", one)]
    done = subprocess.run(
        command(tiny, tmp_path, *options, "--context", "4096", "--problems", "3", "--benchmarks", "aime24,humaneval"),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "aime24-first-3 (3 x 4)" in done.stdout
    assert "humaneval-first-3 (3 x 4)" in done.stdout
    assert {row["problem"].split("/")[0] for row in stored(tmp_path)} == {"aime24", "humaneval"}
    result = read_result(tmp_path / "results" / "aime24-first-3.json")
    assert result.provenance["model"]["context"] == 4096


# ---- the scorecard


def test_the_scorecard_by_hand() -> None:
    result = replace(run(ScriptedEngine(script)), seconds=12.34, provenance={"notes": ["no checksum"]})
    assert titles([result]) == ["avg@K", "pass@K", "maj@K"]
    row = cells(result, titles([result]))
    # 2 of 6 right, one of three samples of both problems; 1 of 6 cut off; 2 of 6 without an answer; 81 tokens
    assert [row[0], row[1], row[3]] == ["q (2 x 3)", "0.333", "1.000"]
    assert row[4:] == ["0.500", "16.7%", "33.3%", "14", "12.3"]
    text = under(result)
    assert text.startswith("q: right 2, wrong 2, no_answer 2; 81 tokens\n  verifier: math (rules ")
    assert text.endswith("\n  note: no checksum")


def test_nothing_is_known_of_the_spread_of_one_problem() -> None:
    result = run(ScriptedEngine(script), exam=replace(EXAM, problems=PROBLEMS[:1]))
    assert cells(result, titles([result]))[2] == "unknown"


def test_no_majority_where_right_answers_have_no_text() -> None:
    result = run(ScriptedEngine(script))
    for answers in ((), (("", "7", ""), ("4", "7", ""))):
        assert cells(replace(result, answers=answers), ["avg@K", "maj@K"])[3] == "-"


def test_results_of_before_are_still_read(tmp_path: Path) -> None:
    for path in (Path(__file__).parents[2] / "leaderboards" / "lab" / "base" / "results").glob("*.json"):
        values = json.loads(path.read_text())
        newer = ("answers", "clusters", "dates", "weights", "prompts", "verifier")
        (tmp_path / path.name).write_text(json.dumps({key: values[key] for key in values if key not in newer}))
        assert "verifier: not recorded" in under(read_result(tmp_path / path.name))
