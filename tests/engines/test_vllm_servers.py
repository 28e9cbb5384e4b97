"""Servers of vLLM: refused before the first step where they do not fit, spread over, replaced, never waited for in vain."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.rollouts import Growing, ask, drawn_in_order, plain
from helpers.vllm_server import END, GENERATE, Fake, serving

from archer.distributed import Ranks
from archer.engines.base import sample_seed
from archer.engines.queue import FixedQueue, closed_after
from archer.engines.servers.client import address
from archer.engines.servers.engine import BackendEngine
from archer.engines.spec import EngineSpec
from archer.engines.vllm import open_vllm
from archer.engines.vllm.checks import SHAPE, numbers, vocabulary_digest
from archer.engines.vllm.command import on_cpu, serve_command
from archer.engines.vllm.control import ServerControl, drawn_tokens
from archer.engines.vllm.servers import choose_sync
from archer.errors import ArcherError, DataError, EngineError, ModelError, RecipeError, UserError
from archer.models.loading import load_config, load_tokenizer, weights_digest
from archer.problems.lab import TASKS
from archer.recipe.reading import read_recipe
from archer.recipe.sections import ModelSection, Recipe, VllmSection
from archer.types import Request, Sampling

PROBLEMS = [TASKS["lab-arithmetic"].problem("train", index) for index in range(4)]
SHORT = Sampling(max_tokens=8)


@pytest.fixture(scope="module")
def about(tiny: Path) -> dict[str, Any]:
    """What a server that fits says of itself."""
    config, tokenizer = load_config(ModelSection(str(tiny))), load_tokenizer(ModelSection(str(tiny)))
    return {
        "model": "/models/m", "context": 512, "shape": {name: getattr(config, name) for name in SHAPE},
        "vocabulary": vocabulary_digest(tokenizer), "dtype": "float32", "logprobs": "processed_logprobs",
        "slots": 64, "transfer": "", "device": "cpu", "gpu": "", "machine": "node1", "moved": False,
    }  # fmt: skip


@pytest.fixture
def fakes(about: dict[str, Any], tiny: Path) -> Iterator[list[Fake]]:
    """Two servers that fit."""
    with ExitStack() as stack:
        made = [stack.enter_context(serving(Fake(about))) for _ in range(2)]
        for fake in made:
            fake.weights_digest = weights_digest(ModelSection(str(tiny)))
        yield made


def recipe(tiny: Path, urls: list[str], seconds: float = 5.0, slots: int = 64) -> Recipe:
    base = read_recipe("lab", [f"model.path={tiny}", "rollout.engine=vllm", f"rollout.max_concurrency={slots}"])
    return replace(base, rollout=replace(base.rollout, vllm=VllmSection(servers=tuple(urls), seconds=seconds)))


def opened(tiny: Path, fakes: list[Fake], seconds: float = 5.0, slots: int = 64) -> BackendEngine:
    return open_vllm(EngineSpec.of(recipe(tiny, [fake.url for fake in fakes], seconds, slots)), Ranks())


def asks(samples: int, problems: int = 4) -> list[Request]:
    return ask(PROBLEMS[:problems], range(samples), 3)


def drawn(engine: BackendEngine, samples: int) -> int:
    return len(list(engine.generate(FixedQueue(asks(samples)), SHORT)))


# ---- drawing


def test_rollouts_come_in_the_order_asked_with_their_own_seeds(tiny: Path, fakes: list[Fake]) -> None:
    engine = opened(tiny, fakes)
    rollouts = drawn_in_order(engine, asks(8), SHORT)
    seeds = [sample_seed(3, problem.id, sample) for problem in PROBLEMS for sample in range(8)]
    assert [one.seed for one in rollouts] == seeds
    assert [one.tokens.tolist() for one in rollouts] == [[5 + seed % 90, 5 + seed // 90 % 90, END] for seed in seeds]
    assert {tuple(one.logps.tolist()) for one in rollouts} == {(-1.0, -2.0, -3.0)}
    assert {(one.stop, len(one.entropies), one.version) for one in rollouts} == {("end", 0, 0)}
    assert rollouts[0].text == engine.tokenizer.decode(rollouts[0].tokens[:2], skip_special_tokens=True)
    body = next(body for path, body in fakes[0].calls if path == GENERATE)
    sent = body["sampling_params"]
    assert body["token_ids"] in [list(engine.prompt(problem)) for problem in PROBLEMS]
    assert {name: sent[name] for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")} == {
        "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
    }  # fmt: skip
    assert (sent["max_tokens"], sent["logprobs"], sent["stop_token_ids"]) == (8, 0, [END])


def test_no_more_under_way_than_slots_and_both_servers_work(tiny: Path, fakes: list[Fake]) -> None:
    for fake in fakes:
        fake.pause = 0.05
    list(opened(tiny, fakes, slots=3).generate(FixedQueue(asks(8)), SHORT))
    assert [fake.most for fake in fakes] == [3, 3]
    assert fakes[0].tokens + fakes[1].tokens == 32 * 3


def test_further_asks_start_while_others_are_under_way(tiny: Path, fakes: list[Fake]) -> None:
    fakes[0].pause, fakes[1].pause = 0.4, 0.0
    queue = Growing(asks(2, 3), {1: ask(PROBLEMS[3:], (0, 1), 3)})
    rollouts = list(opened(tiny, fakes).generate(queue, SHORT))
    assert sorted(one.problem.id for one in rollouts) == sorted(problem.id for problem in PROBLEMS for _ in range(2))
    assert queue.idle[0] is False
    assert queue.idle[-1] is True


def test_answers_ask_for_no_log_probs(tiny: Path, fakes: list[Fake]) -> None:
    queue = FixedQueue(asks(2, 1), logps=False)
    answers = list(opened(tiny, fakes).generate(queue, Sampling(0.6, 0.95, 20, 9)))
    assert [len(one.logps) for one in answers] == [0, 0]
    assert sorted((one.sample, one.length, one.stop) for one in answers) == [(0, 3, "end"), (1, 3, "end")]
    sent = next(body for path, body in fakes[0].calls if path == GENERATE)["sampling_params"]
    assert (sent["logprobs"], sent["top_k"], sent["temperature"]) == (None, 20, 0.6)


def test_a_response_cut_at_its_length_has_no_end_token(tiny: Path, fakes: list[Fake]) -> None:
    for fake in fakes:
        content = [{"token_id": 7, "logprob": -0.5}] * 2
        fake.alter = {"finish_reason": "length", "token_ids": [7, 8], "logprobs": {"content": content}}
    rollouts = opened(tiny, fakes).generate(FixedQueue(asks(2)), SHORT)
    assert {(one.stop, tuple(one.tokens.tolist())) for one in rollouts} == {("length", (7, 8))}


def test_a_prompt_too_long_is_refused(tiny: Path, fakes: list[Fake]) -> None:
    with pytest.raises(DataError, match="the model holds 512; lower `max_tokens`"):
        list(opened(tiny, fakes).generate(FixedQueue(asks(1)), Sampling(max_tokens=4096)))


# ---- bad days


def test_what_a_dying_server_lost_the_other_draws(tiny: Path, fakes: list[Fake]) -> None:
    whole = drawn_in_order(opened(tiny, fakes), asks(8), SHORT)
    engine = opened(tiny, fakes, seconds=30)
    fakes[1].troubles[GENERATE] = "die"
    assert plain(drawn_in_order(engine, asks(8), SHORT)) == plain(whole)
    lost = sum(path == GENERATE for path, _ in fakes[1].calls) - 16
    assert lost >= 1


def test_a_server_that_is_back_with_its_weights_goes_on(tiny: Path, about: dict[str, Any]) -> None:
    fake = Fake(about)
    with serving(fake):
        fake.weights_digest, port = weights_digest(ModelSection(str(tiny))), int(fake.url.rsplit(":", 1)[1])
        engine = opened(tiny, [fake], seconds=30, slots=2)
        fake.pause = 0.2
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(drawn(engine, 4)))
        thread.start()
        time.sleep(0.5)
    time.sleep(0.5)
    with serving(fake, port):
        thread.join(30)
    assert found == [16]


@pytest.mark.parametrize("trouble", ["die", "fail"])
def test_a_server_that_stays_away_ends_the_call(tiny: Path, fakes: list[Fake], trouble: str) -> None:
    engine = opened(tiny, fakes, seconds=2)
    list(engine.generate(FixedQueue(asks(1), logps=False), SHORT))
    fakes[1].troubles |= {GENERATE: trouble, "/health": "fail"}
    fakes[0].pause = 0.5  # so that the other has something to do until then
    expected = rf"{fakes[1].url}: POST {GENERATE}: away \(.*\) for \d+\.\d of at most 2 s; \d+ of 160 rollouts done"
    with pytest.raises(EngineError, match=expected):
        drawn(engine, 40)


def test_a_server_that_accepts_and_never_answers_ends_the_call(tiny: Path, fakes: list[Fake]) -> None:
    engine = opened(tiny, fakes, seconds=2)
    fakes[0].troubles |= {GENERATE: "hang", "/metrics": "hang"}
    expected = rf"{fakes[0].url}: POST {GENERATE}: no token for \d+\.\d of at most 2 s; \d+ of 32 rollouts done"
    with pytest.raises(EngineError, match=expected):
        drawn(engine, 8)


def test_a_long_response_is_waited_for_while_tokens_come(tiny: Path, fakes: list[Fake]) -> None:
    engine = opened(tiny, fakes, seconds=1)
    fakes[0].pause = fakes[1].pause = 2.5
    stop = threading.Event()

    def count() -> None:
        while not stop.wait(0.1):
            for fake in fakes:
                fake.tokens += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        assert drawn(engine, 2) == 8
    finally:
        stop.set()
        thread.join()


def test_time_spent_on_grading_is_not_the_servers(tiny: Path, fakes: list[Fake]) -> None:
    engine = opened(tiny, fakes, seconds=1, slots=1)
    found = []
    for one in engine.generate(FixedQueue(asks(1)), SHORT):
        found.append(one)
        time.sleep(1.5)
    assert len(found) == 4


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        ({"token_ids": "7"}, "problem .*: the reply is not tokens: (?s:.*)token_ids"),
        ({"logprobs": None}, "problem .*: 0 log-probs for 3 tokens"),
        ({"finish_reason": "abort"}, "away|failed"),
        ({"weight_versions": [{"version": "0bad-3"}]}, "has the weights '0bad-3', not '.*-1'.*goes on from the last"),
    ],
)
def test_what_is_no_response_is_never_one(tiny: Path, fakes: list[Fake], alter: dict[str, Any], message: str) -> None:
    engine = opened(tiny, fakes, seconds=2)
    engine.load(1, lambda: iter([("w", torch.ones(2))]))
    for fake in fakes:
        fake.alter = alter
        fake.troubles["/health"] = "fail"
    with pytest.raises(EngineError, match=message):
        drawn(engine, 2)


def test_an_error_of_grading_is_passed_on(tiny: Path, fakes: list[Fake]) -> None:
    class Stopped(BaseException): ...  # as the command's

    engine = opened(tiny, fakes)
    with (
        pytest.raises(Stopped),
        closed_after(engine.generate(FixedQueue(asks(8)), SHORT)) as rollouts,
    ):
        raise Stopped(next(rollouts))
    assert drawn(engine, 2) == 8


# ---- weights


def test_weights_are_reloaded_and_stamped_into_rollouts(tiny: Path, fakes: list[Fake]) -> None:
    engine = opened(tiny, fakes)
    for version in (1, 2):
        weights = {"a.weight": torch.full((2, 3), float(version)), "b": torch.arange(4.0)}
        engine.load(version, lambda weights=weights: iter(weights.items()))
        for fake in fakes:
            assert torch.equal(fake.loaded["a.weight"], weights["a.weight"])
            assert torch.equal(fake.loaded["b"], weights["b"])
            assert re.fullmatch(rf"[0-9a-f]{{8}}-{version}", fake.label)
            assert fake.calls[-1][0] == "/reset_prefix_cache"
        assert {one.version for one in engine.generate(FixedQueue(asks(1)), SHORT)} == {version}
    assert fakes[0].label == fakes[1].label


@pytest.mark.parametrize("path", ["/collective_rpc", "/update_weight_version", "/reset_prefix_cache"])
@pytest.mark.parametrize(
    ("trouble", "why"),
    [("die", "RemoteProtocolError|ReadError"), ("fail", "status 500: .*EngineDeadError"), ("nonsense", "no JSON: '<html>"), ("hang", "ReadTimeout")],
)  # fmt: skip
def test_a_reload_that_fails_says_which_server_and_call(
    tiny: Path, fakes: list[Fake], path: str, trouble: str, why: str
) -> None:
    engine = opened(tiny, fakes, seconds=1)
    fakes[1].troubles[path] = trouble
    expected = rf"{fakes[1].url}: POST {path}: ({why}).* \(after \d+\.\d of 1 s\)"
    with pytest.raises(EngineError, match=expected):
        engine.load(1, lambda: iter([("w", torch.ones(2))]))


def test_weights_of_another_model_or_run_are_not_drawn_with(tiny: Path, fakes: list[Fake]) -> None:
    fakes[1].weights_digest = "0123456789abcdef"
    with pytest.raises(ModelError, match=r"whose weights 0123456789ab are not those of model.path"):
        drawn(opened(tiny, fakes), 1)
    fakes[1].about["moved"] = True
    with pytest.raises(ModelError, match="has the weights of a run that trained with it; start it again"):
        drawn(opened(tiny, fakes), 1)
    assert not any(path == GENERATE for fake in fakes for path, _ in fake.calls)


# ---- before the first step


def test_a_server_that_is_down_is_told_with_the_command_that_starts_it(tiny: Path, about: dict[str, Any]) -> None:
    with serving(Fake(about)) as fake:
        pass
    with pytest.raises(
        EngineError, match=rf"rollout.vllm.servers: {fake.url}: GET /version: ConnectError.*start it: "
    ) as caught:
        opened(tiny, [fake])
    assert "--worker-extension-cls archer.engines.vllm.extension.WorkerExtension" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"vocabulary": "0"}, ModelError, r"serves /models/m with another vocabulary \(0\) than model.path"),
        ({"shape": {"num_hidden_layers": 28}}, ModelError, "serves a model with {'num_hidden_layers': 28}, model.path has {'num_hidden_layers': 2}"),
        ({"dtype": "bfloat16"}, UserError, "has dtype 'bfloat16' where 'float32' is needed; start it: "),
        ({"logprobs": "raw_logprobs"}, UserError, "has logprobs 'raw_logprobs' where 'processed_logprobs' is needed"),
        ({"context": 256}, UserError, "has context 256 where '512' is needed; start it: "),
    ],
)  # fmt: skip
def test_a_server_that_does_not_fit_is_refused(
    tiny: Path, fakes: list[Fake], change: dict[str, Any], kind: type[ArcherError], message: str
) -> None:
    fakes[1].about |= change
    with pytest.raises(kind, match=re.escape(fakes[1].url) + ".*" + message):
        opened(tiny, fakes)


@pytest.mark.parametrize(("version", "found"), [("0.27.1", "0.27.1; needs 0.28 or newer"), ("", "of no known version")])
def test_another_version_is_refused(tiny: Path, fakes: list[Fake], version: str, found: str) -> None:
    fakes[0].version = version
    with pytest.raises(UserError, match=f"{fakes[0].url}: vLLM {found}"):
        opened(tiny, fakes)


@pytest.mark.parametrize("path", ["/collective_rpc", "/get_world_size"])
def test_a_server_that_was_not_started_for_training_is_refused(tiny: Path, fakes: list[Fake], path: str) -> None:
    fakes[0].troubles[path] = "fail"
    with pytest.raises(UserError, match=rf"{fakes[0].url}: was not started for training .*VLLM_SERVER_DEV_MODE=1"):
        opened(tiny, fakes)


def test_what_is_no_server_s_url_is_refused() -> None:
    key = "rollout.vllm.servers"
    assert address("http://node1:8000/v1/", key) == address("http://node1:8000", key) == "http://node1:8000"
    for url in ("node1:8000", "ftp://node1", "http://node1:8000/chat"):
        with pytest.raises(RecipeError, match="expected a URL such as http://node1:8000"):
            address(url, key)


def test_how_weights_travel_is_chosen_by_what_there_is() -> None:
    def on(*gpus: str) -> list[ServerControl]:
        return [ServerControl("http://n", 1.0, {"gpu": gpu}) for gpu in gpus]

    assert choose_sync("auto", on("", ""), []) == "reload"
    assert choose_sync("auto", on("G1", ""), ["G0"]) == "reload"
    assert choose_sync("auto", on("G1", "G2"), ["G0"]) == "nccl"
    assert choose_sync("auto", on("G0", "G1"), ["G0", "G1"]) == "ipc"
    assert choose_sync("nccl", on("G1"), ["G0"]) == "nccl"
    assert choose_sync("reload", on("G1"), ["G0"]) == "reload"
    with pytest.raises(UserError, match=r"nccl: needs a GPU here and at every server \(here: none; theirs: G1\)"):
        choose_sync("nccl", on("G1"), [])
    with pytest.raises(UserError, match="ipc needs every server on a GPU of the trainer; use nccl"):
        choose_sync("ipc", on("G1"), ["G0"])


def test_the_command_line_of_a_server(tiny: Path) -> None:
    made = serve_command(EngineSpec.of(recipe(tiny, [], slots=256)), "nccl", port=8001, gpus=4)
    assert str(made) == (
        f"VLLM_SERVER_DEV_MODE=1 vllm serve {tiny} --dtype float32 --seed 0 --max-model-len 512 --max-num-seqs 256 "
        "--logprobs-mode processed_logprobs --max-logprobs 1 --generation-config vllm --skip-tokenizer-init "
        "--gpu-memory-utilization 0.4 --worker-extension-cls archer.engines.vllm.extension.WorkerExtension --port 8001 "
        '--tokens-only --tensor-parallel-size 4 --weight-transfer-config \'{"backend": "nccl"}\''
    )
    ipc = serve_command(EngineSpec.of(recipe(tiny, [])), "ipc")
    assert ipc.environment == {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_INSECURE_SERIALIZATION": "1"}


def test_the_cache_of_the_cpu_build_is_what_rows_need_or_the_share_of_the_memory(tiny: Path) -> None:
    chosen = recipe(tiny, [], slots=4)
    # 2 layers, keys and values, 32 numbers, 4 bytes; 512 positions a row
    assert on_cpu(EngineSpec.of(chosen), 1 << 40)["kv_cache_memory_bytes"] == 4 * 512 * 2 * 2 * 32 * 4
    assert on_cpu(EngineSpec.of(chosen), 1 << 20)["kv_cache_memory_bytes"] == int(0.4 * (1 << 20))


def test_versions_and_counts_are_read() -> None:
    assert [numbers(one) for one in ("0.32.0+cpu", "0.28.1rc1", "dev")] == [(0, 32, 0), (0, 28, 1), ()]
    page = 'x 1\nvllm:generation_tokens_total{engine="0",model_name="m"} 12.0\nvllm:generation_tokens_total{engine="1"} 3e1\n'
    assert drawn_tokens(page) == 42
    assert drawn_tokens("") == 0
