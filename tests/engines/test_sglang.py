"""SGLang servers, against one that speaks as its documentation has it: asked, reloaded, replaced, never believed blindly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.rollouts import ask, drawn_in_order
from helpers.sglang_server import END, FakeSglang
from helpers.vllm_server import serving
from safetensors.torch import load_file

import archer
from archer.engines import open_engine
from archer.engines.base import Engine, sample_seed
from archer.engines.queue import FixedQueue
from archer.engines.spec import EngineSpec
from archer.errors import EngineError, RecipeError
from archer.problems.lab import TASKS
from archer.recipe.reading import read_recipe
from archer.recipe.sections import Recipe, SglangSection
from archer.tools.planning.launch import server_commands
from archer.tools.planning.memory import Cluster
from archer.tools.planning.plan import make_plan
from archer.types import Sampling

PROBLEMS = [TASKS["lab-arithmetic"].problem("train", index) for index in range(4)]
SHORT = Sampling(max_tokens=8)


@pytest.fixture
def fakes() -> Iterator[list[FakeSglang]]:
    """Two servers."""
    with ExitStack() as stack:
        yield [stack.enter_context(serving(FakeSglang())) for _ in range(2)]  # type: ignore[arg-type, misc]


def recipe(tiny: Path, fakes: list[FakeSglang], seconds: float = 5.0, slots: int = 64) -> Recipe:
    base = read_recipe("lab", [f"model.path={tiny}", "rollout.engine=sglang", f"rollout.max_concurrency={slots}"])
    section = SglangSection(tuple(fake.url for fake in fakes), seconds)
    return replace(base, rollout=replace(base.rollout, sglang=section))


def opened(tiny: Path, fakes: list[FakeSglang], seconds: float = 5.0, slots: int = 64) -> Engine:
    return open_engine(EngineSpec.of(recipe(tiny, fakes, seconds, slots)))


def test_a_request_is_explicit_and_its_answer_a_rollout(tiny: Path, fakes: list[FakeSglang]) -> None:
    engine = opened(tiny, fakes)
    rollouts = drawn_in_order(engine, ask(PROBLEMS, (0, 1)), SHORT)
    for rollout in rollouts:
        assert rollout.tokens[-1] == END
        assert rollout.logps.tolist() == [-0.5 * (at + 1) for at in range(len(rollout.tokens))]
        assert (rollout.stop, rollout.version) == ("end", 0)
    body = next(body for path, body in fakes[0].calls if path == "/generate")
    seeds = [sample_seed(5, problem.id, sample) & (2**31 - 1) for problem in PROBLEMS for sample in (0, 1)]
    assert body["input_ids"] in [list(engine.prompt(problem)) for problem in PROBLEMS]
    assert body["sampling_params"].pop("sampling_seed") in seeds
    assert body["sampling_params"] == {
        "temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
        "frequency_penalty": 0.0, "max_new_tokens": 8, "stop_token_ids": [END], "skip_special_tokens": False,
    }  # fmt: skip
    assert (body["return_logprob"], body["stream"]) == (True, False)


def test_both_servers_work_within_their_room(tiny: Path, fakes: list[FakeSglang]) -> None:
    for fake in fakes:
        fake.pause = 0.05
    list(opened(tiny, fakes, slots=3).generate(FixedQueue(ask(PROBLEMS, range(8))), SHORT))
    assert [fake.most for fake in fakes] == [3, 3]


def test_servers_first_load_the_model_of_the_recipe(tiny: Path, fakes: list[FakeSglang]) -> None:
    drawn_in_order(opened(tiny, fakes), ask(PROBLEMS, (0,)), SHORT)
    whole = load_file(tiny / "model.safetensors")
    for fake in fakes:
        assert [path for path, _ in fake.calls][:4] == [
            "/get_model_info", "/pause_generation", "/update_weights_from_disk", "/continue_generation",
        ]  # fmt: skip
        assert all(torch.equal(fake.loaded[name], tensor) for name, tensor in whole.items())


def test_weights_travel_as_files_and_are_flushed(tiny: Path, fakes: list[FakeSglang], tmp_path: Path) -> None:
    chosen = recipe(tiny, fakes)
    rollout = replace(chosen.rollout, sglang=replace(chosen.rollout.sglang, folder=str(tmp_path)))
    engine = open_engine(EngineSpec.of(replace(chosen, rollout=rollout)))
    engine.load(3, lambda: iter([("a", torch.ones(2)), ("b", torch.zeros(1))]))
    for fake in fakes:
        body = next(body for path, body in fake.calls if path == "/update_weights_from_disk")
        assert body["model_path"].startswith(str(tmp_path))
        assert (body["flush_cache"], body["weight_version"][-2:], fake.label) == (True, "-3", body["weight_version"])
        assert fake.loaded["a"].tolist() == [1.0, 1.0]
    assert list(tmp_path.iterdir()) == []  # read, and gone
    assert {one.version for one in drawn_in_order(engine, ask(PROBLEMS, (0,)), SHORT)} == {3}


def test_what_a_dying_server_lost_the_other_draws(tiny: Path, fakes: list[FakeSglang]) -> None:
    engine = opened(tiny, fakes)
    whole = drawn_in_order(engine, ask(PROBLEMS, range(4)), SHORT)
    fakes[0].troubles["/generate"] = "die"
    again = drawn_in_order(engine, ask(PROBLEMS, range(4)), SHORT)
    assert [one.tokens.tolist() for one in again] == [one.tokens.tolist() for one in whole]


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        ({"output_token_logprobs": None}, "problem .*: 0 log-probs for . tokens"),
        ({"finish_reason": {"type": "abort", "message": "x"}}, r"away \(ended with 'abort'|failed"),
        ({"finish_reason": "stop"}, "problem .*: the reply is not tokens"),
        ({"weight_version": "other"}, "has the weights 'other', not '.*-model'.*the same command goes on"),
    ],
)
def test_what_is_no_response_is_never_one(
    tiny: Path, fakes: list[FakeSglang], alter: dict[str, object], message: str
) -> None:
    for fake in fakes:
        fake.alter = alter
    with pytest.raises(EngineError, match=message):
        drawn_in_order(opened(tiny, fakes, seconds=1.0), ask(PROBLEMS, (0,)), SHORT)


def test_a_server_that_cannot_load_or_answer_is_named(tiny: Path, fakes: list[FakeSglang]) -> None:
    engine = opened(tiny, fakes)
    with pytest.raises(
        EngineError, match=r"/update_weights_from_disk: no weights in .*the server must see .*rollout.sglang"
    ):
        engine.load(1, lambda: iter([]))
    fakes[1].troubles["/update_weights_from_disk"] = "fail"
    with pytest.raises(EngineError, match=rf"{fakes[1].url}: POST /update_weights_from_disk: status 500"):
        engine.load(1, lambda: iter([("a", torch.ones(1))]))
    assert not fakes[1].paused
    with pytest.raises(RecipeError, match="rollout.sglang.servers: name at least one"):
        opened(tiny, [])
    gone = FakeSglang()
    gone.url = "http://127.0.0.1:9"
    with pytest.raises(
        EngineError, match=r"GET /get_model_info: ConnectError.*start it: python -m sglang.launch_server"
    ):
        opened(tiny, [gone])


def test_a_run_of_two_steps(tiny: Path, fakes: list[FakeSglang], tmp_path: Path) -> None:
    chosen = recipe(tiny, fakes)
    changes = [
        "steps=2", "rollout.prompts=2", "rollout.samples_per_prompt=2", "rollout.max_tokens=8", "update.mini_batch=2",
        "evaluate.benchmarks=[]", "evaluate.during_training.every=0", "data=[{name: lab-arithmetic}]",
        "rollout.correction.stop=1000",  # what the stand-in draws has nothing to do with the model
    ]  # fmt: skip
    ran = archer.train(chosen, "grpo", out=tmp_path / "out", changes=changes)
    assert len(ran.metrics) == 2
    assert fakes[0].label.endswith("-2")


def test_the_plan_starts_its_servers_first() -> None:
    urls = '["http://far:30000", "http://near:30001"]'
    changes = ["rollout.engine=sglang", f"rollout.sglang.servers={urls}", "update.deepspeed=null"]
    plan = make_plan(read_recipe("archer-math-1.5b", changes), "archer", Cluster(1, 1, 80))
    assert [host for host, _ in server_commands(plan)] == ["far", "near"]
    assert "sglang.launch_server --model-path deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B" in server_commands(plan)[0][1]
    assert not any(part.name == "KV cache" for part in plan.memory.parts)
