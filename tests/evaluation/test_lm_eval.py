"""lm-eval's tasks on our engines: the same numbers as lm-eval's own model, streams of their own, nothing cut in silence."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.rollouts import ask, drawn_in_order
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from typer.testing import CliRunner

from archer.__main__ import app
from archer.engines.native import NativeEngine
from archer.engines.scoring import LikelihoodScore, LikelihoodScorer
from archer.errors import ArcherError, DataError, RecipeError, UserError
from archer.evaluation.lm_eval.catalogue import open_catalogue, open_task
from archer.evaluation.lm_eval.kwargs import GenerationSettings, read_settings
from archer.evaluation.lm_eval.lm import ArcherLM, number_repeats
from archer.evaluation.lm_eval.responses import ResponseCache
from archer.evaluation.lm_eval.run import LmEvalOptions, build_lm, run_lm_eval
from archer.evaluation.lm_eval.texts import TextResponse, settle
from archer.evaluation.lm_eval.window import ContextWindow
from archer.evaluation.loaded import load_benchmark
from archer.models.loading import load_model, model_path
from archer.models.prompts import PromptRenderer
from archer.recipe.reading import read_recipe
from archer.rewards.grading import Grader
from archer.types import Sampling

FACTS = [
    ("The capital of France is", ["Paris", "Rome", "Oslo", "Bern"], 0),
    ("Two plus two is", ["five", "four", "six"], 1),
    ("Water is made of hydrogen and", ["helium", "neon", "oxygen", "gold"], 2),
    ("1+1 is", ["1", "2", "3", "4"], 1),
    ("A table has legs, and so has a", ["stone", "dog"], 1),
]
TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
metadata: {{version: 1.0}}
"""
CHOICE = """output_type: multiple_choice
doc_to_choice: choices
doc_to_target: gold
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
WRITTEN = """output_type: generate_until
doc_to_target: "{{choices[gold]}}"
generation_kwargs: {do_sample: false, max_gen_toks: 24, until: ["e"]}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two local tasks over one set of knowledge questions."""
    place = tmp_path_factory.mktemp("facts")
    rows = [{"question": question, "choices": choices, "gold": gold} for question, choices, gold in FACTS]
    (place / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, rest in (("facts", CHOICE), ("facts_written", WRITTEN)):
        (place / f"{name}.yaml").write_text(TASK.format(name=name, data=place / "facts.jsonl") + rest)
    return place


@pytest.fixture
def lm(tmp_path: Path) -> ArcherLM:
    recipe = read_recipe("lab")
    responses = ResponseCache(tmp_path / "responses.sqlite", {"weights": "lab"})
    return build_lm(recipe, *load_model(recipe.model), responses, LmEvalOptions(truncate=True), seed=3)


@pytest.fixture(scope="module")
def peer() -> HFLM:
    """lm-eval's own model."""
    return HFLM(pretrained=model_path("lab"), dtype="float32", device="cpu", batch_size=3)


def instance(arguments: tuple, document: int = 0, task: str = "t", repeats: int = 1) -> Instance:
    kind = "generate_until" if isinstance(arguments[-1], dict) else "loglikelihood"
    return Instance(kind, {}, arguments, 0, (task, document, repeats))


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, GenerationSettings(Sampling(0.0, 1.0, 0, 256))),
        (
            {"do_sample": False, "temperature": 0.7, "until": "\n"},
            GenerationSettings(Sampling(0.0, 1.0, 0, 256), ("\n",)),
        ),
        ({"temperature": 0.5, "top_p": 0.9, "max_gen_toks": 8}, GenerationSettings(Sampling(0.5, 0.9, 0, 8))),
        ({"do_sample": True, "max_new_tokens": 8, "top_k": -1}, GenerationSettings(Sampling(1.0, 1.0, 0, 8))),
        ({"do_sample": True, "top_k": 5, "until": ["a", ""]}, GenerationSettings(Sampling(1.0, 1.0, 5, 256), ("a",))),
        ({"repetition_penalty": 1.0, "num_beams": 1}, GenerationSettings(Sampling(0.0, 1.0, 0, 256))),
    ],
)
def test_generation_kwargs_become_sampling(kwargs: dict, expected: GenerationSettings) -> None:
    assert read_settings("t", kwargs, {}) == expected


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"temprature": 1.0}, "t: generation_kwargs: unknown key 'temprature' (did you mean 'temperature'?)"),
        ({"num_beams": 4}, "num_beams: 4: only 1 is supported"),
        ({"max_gen_toks": 8, "max_tokens": 9}, r"disagree: [8, 9]; keep one"),
        ({"do_sample": True, "temperature": 0}, "do_sample: true at temperature 0"),
        ({"do_sample": True, "top_p": 0.0}, "out of its range"),
    ],
)
def test_generation_kwargs_that_cannot_be_done_are_refused(kwargs: dict, told: str) -> None:
    with pytest.raises(UserError) as caught:
        read_settings("t", kwargs, {})
    assert told in str(caught.value)


def test_the_recipe_changes_single_values_of_a_task_s_sampling() -> None:
    assert read_settings("t", {"temperature": 0.5, "max_tokens": 99}, {"max_tokens": 4}).sampling == Sampling(
        0.5, 1.0, 0, 4
    )
    with pytest.raises(RecipeError, match="max_toks"):
        read_settings("t", {}, {"max_toks": 4})


def test_a_prompt_too_long_is_an_error_or_counted() -> None:
    assert ContextWindow(10).fit("a", (1, 2, 3), 7) == (1, 2, 3)
    with pytest.raises(DataError, match="a: a prompt of 3 tokens and 8 to follow, the model holds 10"):
        ContextWindow(10).fit("a", (1, 2, 3), 8)
    window = ContextWindow(10, truncate=True)
    assert window.fit("a", (1, 2, 3), 8) == (2, 3)
    assert window.cut == {"a": 1}
    with pytest.raises(DataError, match="lower max_gen_toks"):
        window.fit("a", (1,), 10)


def test_a_text_ends_before_the_first_stop_string() -> None:
    settings = GenerationSettings(Sampling(max_tokens=9), ("\n\n", "Q:"))
    assert settle("4 Q: 5\n\n", "length", 8, settings) == TextResponse("4 ", "until", 8)
    assert settle("4", "end", 2, settings) == TextResponse("4", "end", 2)
    assert settle("4", "length", 8, settings) is None
    assert settle("4", "length", 9, settings) == TextResponse("4", "length", 9)


def test_responses_belong_to_weights_and_request(tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "r.sqlite", {"weights": "a"}) as first:
        first.put(["x", 1], "one")
        assert (first.get(["x", 1]), first.get(["x", 2]), first.found) == ("one", None, 1)
    with ResponseCache(tmp_path / "r.sqlite", {"weights": "b"}) as other:
        assert other.get(["x", 1]) is None
    with ResponseCache(tmp_path / "r.sqlite", {"weights": "a"}) as again:
        assert again.get(["x", 1]) == "one"


def test_repeats_are_numbered_request_by_request() -> None:
    a, b, other = instance(("p", {}), 0, repeats=2), instance(("p", {}), 1), instance(("p", {}), 0, "u")
    assert number_repeats([a, a, b, other]) == [0, 1, 0, 0]


def test_scores_are_transformers_own_whatever_the_batch() -> None:
    model, tokenizer = load_model(read_recipe("lab").model)
    texts = [("The sky is", " blue"), ("12+34=", "46"), ("a", "bcdefgh"), ("The sky is", " green"), ("x" * 40, "y")]
    pairs = [tuple(tuple(tokenizer.encode(part)) for part in pair) for pair in texts]
    by_hand = []
    for context, continuation in pairs:
        logits = model(torch.tensor([[*context, *continuation]])).logits[0].detach().double().log_softmax(-1)
        at = range(len(context) - 1, len(context) + len(continuation) - 1)
        by_hand.append(sum(float(logits[place, token]) for place, token in zip(at, continuation, strict=True)))
    alone = LikelihoodScorer(model, tokens=1).score(pairs)
    together = LikelihoodScorer(model).score(pairs)
    assert [score.logp for score in alone] == pytest.approx(by_hand, abs=1e-5, rel=1e-6)
    assert [score.logp for score in together] == pytest.approx(by_hand, abs=1e-5, rel=1e-6)
    assert [score.greedy for score in alone] == [score.greedy for score in together]


def test_the_greedy_continuation_is_called_greedy() -> None:
    model, tokenizer = load_model(read_recipe("lab").model)
    context = tuple(tokenizer.encode("12+34="))
    best = int(model(torch.tensor([context])).logits[0, -1].argmax())
    scores = LikelihoodScorer(model).score([(context, (best,)), (context, ((best + 1) % 300,))])
    assert [score.greedy for score in scores] == [True, False]
    assert isinstance(scores[0], LikelihoodScore)


def test_an_empty_continuation_has_no_score() -> None:
    with pytest.raises(DataError, match="pair 0: nothing to score: 1 and 0 tokens"):
        LikelihoodScorer(load_model(read_recipe("lab").model)[0]).score([((1,), ())])


def test_log_likelihoods_are_those_of_lm_eval_s_own_model(lm: ArcherLM, peer: HFLM) -> None:
    long = "A sentence that goes on. " * 40  # twice the model's context: both keep its end
    pairs = [("The sky is", " blue"), ("The sky is ", "blue"), ("", "alone"), ("12+34=", "46"), (long, "so")]
    ours = lm.loglikelihood([instance(pair, place) for place, pair in enumerate(pairs)])
    theirs = peer.loglikelihood([instance(pair, place) for place, pair in enumerate(pairs)], disable_tqdm=True)
    assert [logp for logp, _ in ours] == pytest.approx([logp for logp, _ in theirs], abs=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert list(lm.parts.window.cut) == ["t/4/0"]


def test_rolling_log_likelihoods_are_those_of_lm_eval_s_own_model(lm: ArcherLM, peer: HFLM) -> None:
    texts = [instance(("A short text.",)), instance(("A sentence that goes on. " * 40,), 1)]
    assert lm.loglikelihood_rolling(texts) == pytest.approx(
        peer.loglikelihood_rolling(texts, disable_tqdm=True), abs=2e-3, rel=1e-6
    )


def test_greedy_texts_are_those_of_lm_eval_s_own_model(lm: ArcherLM, peer: HFLM) -> None:
    kwargs = {"do_sample": False, "max_gen_toks": 100, "until": ["e", "\n"]}
    prompts = ["12+34=", "The sky is", "<|user|>What is 120+45?<|assistant|>"]
    requests = [instance((prompt, kwargs), place) for place, prompt in enumerate(prompts)]
    assert lm.generate_until(requests) == peer.generate_until(requests, disable_tqdm=True)


def test_texts_grown_in_rounds_are_those_of_one(lm: ArcherLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archer.evaluation.lm_eval.texts.FIRST_ROUND", 2)
    prompt = "<|user|>What is 120+45?<|assistant|>"
    whole = lm.generate_until([instance((prompt, {"max_gen_toks": 150}))])
    grown = lm.generate_until([instance((prompt, {"max_gen_toks": 150, "until": ["no such text"]}), task="u")])
    assert whole == grown
    assert lm.answered["t", 0] == lm.answered["u", 0]
    assert lm.answered["t", 0][0].tokens > 8  # rounds of 2, 2, 4 and more


def test_each_repeat_is_a_sample_of_its_own_and_greedy_repeats_are_refused(lm: ArcherLM) -> None:
    kwargs = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 24}
    one = instance(("The sky", kwargs), repeats=4)
    texts = lm.generate_until([one] * 4)
    assert len(set(texts)) == 4
    company = [instance(("12+", kwargs), 1), *[one] * 4]
    lm.parts.responses.owner["weights"] = "drawn again"
    assert lm.generate_until(company)[1:] == texts
    greedy = instance(("The sky", {"max_gen_toks": 4}), repeats=2)
    with pytest.raises(UserError, match="t: greedy decoding makes its 2 repeats the same"):
        lm.generate_until([greedy, greedy])


def test_knowledge_questions_score_as_with_lm_eval_s_own_model(facts: Path, peer: HFLM, tmp_path: Path) -> None:
    from lm_eval import simple_evaluate

    report = run_lm_eval(read_recipe("lab"), ["facts", "facts_written"], tmp_path, facts)["tasks"]
    theirs = simple_evaluate(
        model=peer, tasks=[open_task(open_catalogue([name], facts, {}), name)["tasks"][name] for name in report],
        random_seed=None, numpy_random_seed=None, torch_random_seed=None,
    )  # fmt: skip
    for name, one in report.items():
        assert one["results"][name] == pytest.approx(theirs["results"][name], abs=1e-9)
        for ours, other in zip(one["samples"][name], theirs["samples"][name], strict=True):
            assert (ours["doc_hash"], ours["prompt_hash"]) == (other["doc_hash"], other["prompt_hash"])
    ours = json.loads((tmp_path / "lm-eval" / "facts.json").read_text())
    logps = [[answer[0][0] for answer in row["resps"]] for row in ours["samples"]["facts"]]
    expected = [[answer[0][0] for answer in row["resps"]] for row in theirs["samples"]["facts"]]
    for left, right in zip(logps, expected, strict=True):
        assert left == pytest.approx(right, abs=1e-4)
    # Every number can be made from the outcomes again.
    right = [int(np.argmax(row) == gold) for row, (_, _, gold) in zip(logps, FACTS, strict=True)]
    assert ours["results"]["facts"]["acc,none"] == pytest.approx(sum(right) / 5)
    assert ours["results"]["facts"]["acc_stderr,none"] == pytest.approx(np.std(right, ddof=1) / np.sqrt(5))
    assert ours["n-shot"] == {"facts": 0}
    assert ours["chat_template_sha256"] is None
    assert report["facts_written"]["stops"]["facts_written"].keys() <= {"until", "end", "length"}


def test_an_evaluation_goes_on_where_it_stopped_and_reseeds_nothing(facts: Path, tmp_path: Path) -> None:
    states = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    random.seed(1)
    first = run_lm_eval(read_recipe("lab"), ["facts_written"], tmp_path, facts, limit=3)["tasks"]["facts_written"]
    once = random.getstate()
    random.seed(2)
    more = run_lm_eval(read_recipe("lab"), ["facts_written"], tmp_path, facts)["tasks"]["facts_written"]
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    assert random.getstate() != once
    assert (first["kept_responses"], more["kept_responses"]) == (0, 3)
    assert more["samples"]["facts_written"][:3] == first["samples"]["facts_written"]


def test_a_sampled_evaluation_goes_on_with_the_samples_of_one_that_never_stopped(tmp_path: Path) -> None:
    recipe, task = read_recipe("lab", ["evaluate.samples=3", "evaluate.sampling.max_tokens=48"]), "archer_lab_countdown"
    whole = run_lm_eval(recipe, [task], tmp_path / "whole", limit=4)["tasks"][task]
    run_lm_eval(recipe, [task], tmp_path / "cut", limit=2)
    rest = run_lm_eval(recipe, [task], tmp_path / "cut", limit=4)["tasks"][task]
    other = run_lm_eval(recipe, [task], tmp_path / "cut", limit=4, seed=1)["tasks"][task]
    assert (rest["kept_responses"], other["kept_responses"]) == (6, 0)
    assert rest["samples"] == whole["samples"]
    assert other["samples"] != whole["samples"]


def test_our_benchmark_through_lm_eval_is_our_benchmark(tmp_path: Path) -> None:
    changes = ["evaluate.samples=4", "evaluate.sampling.max_tokens=64"]
    recipe = read_recipe("lab", changes)
    report = run_lm_eval(recipe, ["archer_lab_arithmetic"], tmp_path, limit=3, seed=5)["tasks"]["archer_lab_arithmetic"]
    exam = load_benchmark("lab-arithmetic").part(3, 4)
    model, tokenizer = load_model(recipe.model)
    engine = NativeEngine(model, tokenizer, PromptRenderer(tokenizer), 64)
    rollouts = drawn_in_order(engine, ask(exam.problems, range(4)), Sampling(max_tokens=64))
    rows = report["samples"]["archer_lab_arithmetic"]
    assert [text for row in rows for text in row["resps"][0]] == [rollout.text for rollout in rollouts]
    with Grader(1, 5.0) as grader:
        verdicts = grader.grade(rollouts)
    share = sum(verdict.passed for verdict in verdicts) / 12
    assert 0 < share < 1  # else this would show little
    assert report["results"]["archer_lab_arithmetic"]["avg@k,graded"] == pytest.approx(share)
    assert [one["stop"] for row in rows for one in row["texts"]] == [rollout.stop for rollout in rollouts]
    assert report["chat_template_sha256"] is not None


def test_real_aime24_runs_on_our_engine(shared: Path, tmp_path: Path) -> None:
    how = LmEvalOptions(truncate=True, data={"aime24": shared / "data" / "math" / "aime24.jsonl"})
    recipe = read_recipe("lab", ["evaluate.samples=3", "evaluate.sampling.max_tokens=16"])
    report = run_lm_eval(recipe, ["archer_aime24"], tmp_path, how=how)["tasks"]["archer_aime24"]
    rows = report["samples"]["archer_aime24"]
    assert (len(rows), {len(row["resps"][0]) for row in rows}) == (30, {3})
    assert report["results"]["archer_aime24"]["avg@k,graded"] == 0.0
    assert 0 < len(report["truncated_prompts"]) < 30  # bytes for tokens: some problems exceed the lab model's 512
    assert report["stops"]["archer_aime24"]["length"] > 0
    assert report["sampling_changes"] == {"max_tokens": 16}
    assert report["benchmarks"]["archer_aime24"]["sha256"] == load_benchmark("aime24", data=how.data).benchmark.sha256
    with pytest.raises(DataError, match=r"the model holds 512; use fewer shots.* \(--truncate\)"):
        run_lm_eval(recipe, ["archer_aime24"], tmp_path / "strict", how=LmEvalOptions(data=how.data))


def test_the_command_prints_lm_eval_s_table(facts: Path, tmp_path: Path) -> None:
    arguments = ["lm-eval", "lab", "facts,facts_written", "--include", str(facts), "--problems", "2", "--chat"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "|facts|" in done.output
    assert "facts: the first 2 documents only: not the task's number" in done.output
    report = json.loads((tmp_path / "lm-eval" / "facts.json").read_text())
    assert report["n-samples"] == {"facts": {"original": 5, "effective": 2}}
    assert report["chat_template_sha256"] is not None
    assert len(report["samples"]["facts"]) == 2


def test_what_cannot_be_had_is_told(tmp_path: Path) -> None:
    catalogue = open_catalogue(["mmlu", "triviaqa", "humaneval"], None, {})
    with pytest.raises(DataError, match=r"lm-eval task mmlu: cais/mmlu cannot be opened \(.*fetch the data set"):
        open_task(catalogue, "mmlu")
    with pytest.raises(DataError, match="lm-eval task triviaqa: .*trivia_?qa cannot be opened"):
        open_task(catalogue, "triviaqa")
    with pytest.raises(UserError, match="it runs programs of the model outside any sandbox"):
        open_task(catalogue, "humaneval")
    with pytest.raises(UserError, match="no task, group or tag 'mmluu'; did you mean 'mmlu'"):
        open_catalogue(["mmluu"], None, {})
    with pytest.raises(DataError, match="no such folder"):
        open_catalogue(["mmlu"], tmp_path / "missing", {})
    with pytest.raises(UserError, match="--data aime25: none of the tasks is of that benchmark.* archer_aime25"):
        run_lm_eval(
            read_recipe("lab"),
            ["archer_lab_arithmetic"],
            tmp_path,
            how=LmEvalOptions(data={"aime25": tmp_path}),
            limit=1,
        )
    with pytest.raises(ArcherError, match="a limit of 0 documents; give 1 or more"):
        run_lm_eval(read_recipe("lab"), ["mmlu"], tmp_path, limit=0)


def test_without_lm_eval_the_message_says_how_to_install_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['lm_eval'] = None\n"
        "from pathlib import Path; from archer.evaluation.lm_eval import run_lm_eval; from archer.recipe.reading import read_recipe\n"
        f"run_lm_eval(read_recipe('lab'), ['mmlu'], Path({str(tmp_path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MissingError: archer lm-eval needs `pip install 'archer-rlvr[lm-eval]'`" in done.stderr
