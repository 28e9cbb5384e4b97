"""A real vLLM in a process of its own: it agrees with the policy after every update, draws the same again, never hangs."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.rollouts import Growing, ask, drawn_in_order, plain
from helpers.vllm_runs import PROBLEMS, SHORT, asks, load, moved, parts, recipe, untrained, worst

from archer.distributed import Ranks
from archer.engines.queue import FixedQueue, closed_after
from archer.engines.servers.engine import BackendEngine
from archer.engines.spec import EngineSpec
from archer.engines.vllm import open_vllm
from archer.engines.vllm.child import ChildBackend, clean
from archer.errors import EngineError, RecipeError
from archer.models.prompts import PromptRenderer
from archer.recipe.sections import VllmSection
from archer.types import Sampling


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model with one head of 32: vLLM's CPU build takes no smaller ones."""
    return untrained(tmp_path_factory.mktemp("tiny32"), hidden=32)


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[BackendEngine]:
    chosen = recipe(tiny)
    made = open_vllm(EngineSpec.of(chosen), Ranks())
    yield made
    made.close()


@pytest.fixture
def fresh(engine: BackendEngine, tiny: Path) -> BackendEngine:
    """The engine with the weights on disk."""
    load(engine, 0, parts(recipe(tiny))[0])
    return engine


pytestmark = pytest.mark.vllm


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_equal_the_policy_s_after_every_update(fresh: BackendEngine, tiny: Path, temperature: float) -> None:
    model = parts(recipe(tiny))[0]
    sampling = Sampling(temperature=temperature, max_tokens=40)
    for version in range(1, 5):
        stale, model = model, moved(model, version)
        load(fresh, version, model)
        rollouts = drawn_in_order(fresh, asks(version), sampling)
        assert worst(model, rollouts, temperature) < 2e-3
        assert worst(stale, rollouts, temperature) > 0.1  # so that old weights anywhere would show
        assert {one.version for one in rollouts} == {version}


def test_a_rollout_is_shaped_as_the_native_engine_s(fresh: BackendEngine) -> None:
    rollouts = drawn_in_order(fresh, ask(PROBLEMS[:1], range(64), 1), Sampling(max_tokens=300))
    assert [one.sample for one in rollouts] == list(range(64))
    assert {one.stop for one in rollouts} == {"end", "length"}
    end = fresh.tokenizer.eos_token_id
    for one in rollouts:
        assert (one.tokens[-1] == end) == (one.stop == "end")
        assert end not in one.tokens[:-1]
        assert one.stop == "end" or len(one.tokens) == 300
        assert (len(one.logps), len(one.entropies)) == (len(one.tokens), 0)
        assert one.text == fresh.tokenizer.decode(one.tokens, skip_special_tokens=True)
    assert len({tuple(one.tokens) for one in rollouts}) == 64


def test_the_same_requests_draw_the_same_bits_whatever_came_before(fresh: BackendEngine) -> None:
    first = drawn_in_order(fresh, asks(5), SHORT)
    drawn_in_order(fresh, asks(6, samples=7), Sampling(max_tokens=9))
    drawn_in_order(fresh, asks(7), Sampling(0.6, 0.95, 20, 30), logps=False)
    assert plain(drawn_in_order(fresh, asks(5), SHORT)) == plain(first)


def test_another_process_draws_the_same_bits(fresh: BackendEngine, tiny: Path) -> None:
    chosen = recipe(tiny)
    model, _ = parts(chosen)
    other = moved(model, 3)
    load(fresh, 1, other)
    expected = drawn_in_order(fresh, asks(5), SHORT)
    second = open_vllm(EngineSpec.of(chosen), Ranks())
    try:
        load(second, 1, other)
        assert plain(drawn_in_order(second, asks(5), SHORT)) == plain(expected)
    finally:
        second.close()


def test_further_asks_join_at_the_same_step_every_time(fresh: BackendEngine) -> None:
    def run() -> Growing:
        first, later = ask(PROBLEMS[:1], (0, 1, 2)), {at: ask(PROBLEMS[2:3], (0, 1), at) for at in (3, 20)}
        queue = Growing(first, later)
        rollouts = list(fresh.generate(queue, SHORT))
        assert Counter(one.problem.id for one in rollouts) == {PROBLEMS[0].id: 3, PROBLEMS[2].id: 4}
        queue.found = plain(rollouts)
        return queue

    queue, again = run(), run()
    assert (queue.idle[0], queue.idle[-1]) == (False, True)
    assert (again.idle, again.found) == (queue.idle, queue.found)


def test_an_evaluation_draws_the_rollouts_without_their_log_probs(fresh: BackendEngine) -> None:
    answers = drawn_in_order(fresh, asks(5), SHORT, logps=False)
    rollouts = drawn_in_order(fresh, asks(5), SHORT)
    assert [len(one.logps) for one in answers] == [0] * len(answers)
    assert [(one.text, one.length, one.stop) for one in answers] == [
        (one.text, len(one.tokens), one.stop) for one in rollouts
    ]


def test_greedy_takes_the_likeliest_token(fresh: BackendEngine, tiny: Path) -> None:
    model = parts(recipe(tiny))[0]
    [rollout] = drawn_in_order(fresh, ask(PROBLEMS[:1], (0,), 1), Sampling(temperature=0, max_tokens=6))
    ids = list(rollout.prompt_tokens)
    for token in rollout.tokens:
        assert model(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item() == token
        ids.append(token)


def test_a_thought_that_the_template_opens_is_part_of_the_text(fresh: BackendEngine) -> None:
    asking = copy.deepcopy(fresh.tokenizer)
    asking.chat_template += "<think>\n"
    engine = BackendEngine(fresh.host, asking, PromptRenderer(asking), fresh.stops, fresh.context, fresh.description)
    found = drawn_in_order(engine, ask(PROBLEMS[:1], (0, 1)), SHORT)
    assert {one.text.startswith("<think>") for one in found} == {True}


def test_an_error_of_grading_leaves_the_engine_usable(fresh: BackendEngine) -> None:
    expected = drawn_in_order(fresh, asks(5), SHORT)

    class Stopped(BaseException): ...  # as the command's

    with (
        pytest.raises(Stopped),
        closed_after(fresh.generate(FixedQueue(asks(6)), SHORT)) as rollouts,
    ):
        raise Stopped(next(rollouts))
    assert plain(drawn_in_order(fresh, asks(5), SHORT)) == plain(expected)


def test_a_call_that_nobody_closed_makes_way_for_the_next(fresh: BackendEngine) -> None:
    expected = drawn_in_order(fresh, asks(5), SHORT)
    left = fresh.generate(FixedQueue(asks(6)), SHORT)
    next(left)
    assert plain(drawn_in_order(fresh, asks(5), SHORT)) == plain(expected)
    with pytest.raises(EngineError, match="a second call began before the first one ended: 1 of 24 rollouts done"):
        list(left)
    assert plain(drawn_in_order(fresh, asks(5), SHORT)) == plain(expected)


# ---- engines that end, and engines that hang


@pytest.mark.parametrize(
    ("sign", "message"),
    [
        (signal.SIGKILL, r"vLLM engine of rank 0: step: its process ended: killed by SIGKILL \(\d+ of 6144 rollouts done"),
        (signal.SIGSTOP, r"vLLM engine of rank 0: step: nothing was heard for \d+\.\d s \(\d+ of 6144 rollouts done; .* of at most 3 s"),
    ],
)  # fmt: skip
def test_an_engine_that_ends_or_hangs_while_it_draws(tiny: Path, sign: signal.Signals, message: str) -> None:
    chosen = recipe(tiny)
    engine = open_vllm(EngineSpec.of(chosen), Ranks())
    assert isinstance(engine.host, ChildBackend)
    engine.host.seconds = 3.0
    process = engine.host._process
    timer = threading.Timer(1.0, os.kill, [process.pid, sign])
    timer.start()
    with pytest.raises(EngineError, match=message):
        drawn_in_order(engine, asks(1, 1024), Sampling(max_tokens=200))
    assert process.poll() is not None
    with pytest.raises(EngineError, match="begin: its process ended"):
        drawn_in_order(engine, asks(1), SHORT)
    engine.close()


def test_an_engine_ends_with_a_run_that_is_killed(tiny: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\nfrom helpers import vllm_runs as t\nfrom pathlib import Path\nfrom archer.distributed import Ranks\n"
        "r = t.recipe(Path(sys.argv[1]))\ne = t.open_vllm(t.EngineSpec.of(r), Ranks())\n"
        "Path(sys.argv[2]).write_text(str(e.host._process.pid))\nlist(e.generate(t.FixedQueue(t.asks(1, 4096)), t.Sampling(max_tokens=200)))\n"
    )
    noted = tmp_path / "pid"
    run = subprocess.Popen([sys.executable, "-c", code, str(tiny), str(noted)], cwd=Path(__file__).parents[1])
    while not noted.exists() or not noted.read_text():
        assert run.poll() is None
        time.sleep(0.1)
    run.kill()
    run.wait()
    pid, deadline = int(noted.read_text()), time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_engine_that_cannot_start_says_why(tmp_path_factory: pytest.TempPathFactory) -> None:
    chosen = recipe(untrained(tmp_path_factory.mktemp("narrow"), hidden=24))
    with pytest.raises(EngineError, match=r"vLLM engine of rank 0: open: .*[Hh]ead") as caught:
        open_vllm(EngineSpec.of(chosen), Ranks())
    assert "The end of its log, " in str(caught.value)


def test_nccl_needs_servers(tiny: Path) -> None:
    chosen = recipe(tiny)
    chosen = replace(chosen, rollout=replace(chosen.rollout, vllm=VllmSection(sync="nccl")))
    with pytest.raises(RecipeError, match="rollout.vllm.sync: nccl: needs `servers` on other GPUs"):
        open_vllm(EngineSpec.of(chosen), Ranks())


# ---- several ranks


def test_an_engine_sees_nothing_of_the_run_it_belongs_to() -> None:
    run = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "x", "HOME": "/h"}
    seen = clean(run, 1, 2, {"VLLM_SERVER_DEV_MODE": "1"})
    assert not {"RANK", "WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RUN_ID"} & set(seen)
    assert (seen["HOME"], seen["OMP_NUM_THREADS"], seen["ARCHER_PARENT"]) == ("/h", "2", str(os.getpid()))


def test_each_of_two_ranks_has_an_engine_of_its_own(tiny: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    done = subprocess.run(
        [*command, "helpers/vllm_runs.py", str(tiny), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert [one["gathered"] for one in told] == [[0, 1], [0, 1]]
    assert max(one["worst"] for one in told) < 2e-3
    assert told[0]["tokens"] == told[1]["tokens"]
