"""What every engine of token ids must do: each sample once, from its own stream, within its length, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from helpers.rollouts import Growing, ask, drawn_in_order, plain
from helpers.sglang_server import FakeSglang
from helpers.vllm_server import serving

from archer.engines import open_engine
from archer.engines.base import Engine, sample_seed
from archer.engines.queue import FixedQueue, closed_after
from archer.engines.scripted import ScriptedEngine
from archer.engines.spec import EngineSpec
from archer.models.spec import ModelSpec
from archer.problems.lab import TASKS
from archer.recipe.sections import ModelSection, RolloutSection, SglangSection
from archer.types import Request, Sampling

PROBLEMS = [TASKS[name].problem("train", index) for index in range(2) for name in TASKS]
SAMPLING = Sampling(max_tokens=24)
REQUESTS = ask(PROBLEMS, (0, 3, 1))


def native(tiny: Path) -> Engine:
    return open_engine(EngineSpec(RolloutSection(max_concurrency=7), ModelSpec(ModelSection(str(tiny)))))


def scripted(tiny: Path) -> Engine:
    return ScriptedEngine(lambda problem, sample: f"{problem.id[:8]}.{sample}")


def sglang(tiny: Path) -> Engine:
    server = serving(FakeSglang())  # type: ignore[arg-type]
    section = SglangSection((server.__enter__().url,))
    engine = open_engine(
        EngineSpec(RolloutSection("sglang", sglang=section, max_concurrency=7), ModelSpec(ModelSection(str(tiny))))
    )
    engine.close = lambda: server.__exit__(None, None, None)  # type: ignore[method-assign, assignment, return-value]
    return engine


@pytest.fixture(params=[native, scripted, sglang], ids=lambda make: make.__name__)
def engine(request: pytest.FixtureRequest, tiny: Path) -> Iterator[Engine]:
    make: Callable[[Path], Engine] = request.param
    made = make(tiny)
    yield made
    made.close()


def test_every_sample_comes_once(engine: Engine) -> None:
    rollouts = list(engine.generate(FixedQueue(REQUESTS), SAMPLING))
    asked = [(request.problem.id, request.sample) for request in REQUESTS]
    assert sorted((rollout.problem.id, rollout.sample) for rollout in rollouts) == sorted(asked)
    assert {(one.problem.id, one.sample): one.seed for one in rollouts} == {
        (name, sample): sample_seed(5, name, sample) for name, sample in asked
    }


def test_a_rollout_is_whole(engine: Engine) -> None:
    for rollout in engine.generate(FixedQueue(REQUESTS), SAMPLING):
        assert 1 <= len(rollout.tokens) <= SAMPLING.max_tokens
        assert rollout.length == len(rollout.logps) == len(rollout.tokens)
        assert (rollout.prompt_tokens.dtype, rollout.tokens.dtype) == (np.int32, np.int32)
        assert (rollout.logps.dtype, rollout.entropies.dtype) == (np.float32, np.float32)
        assert all(logp <= 0 for logp in rollout.logps)
        assert rollout.stop == ("end" if len(rollout.tokens) < SAMPLING.max_tokens else rollout.stop)
        assert rollout.stop in ("end", "length")


def test_a_sample_depends_on_its_own_stream_alone(engine: Engine) -> None:
    whole = {(one.problem.id, one.sample): one.tokens for one in engine.generate(FixedQueue(REQUESTS), SAMPLING)}
    [alone] = engine.generate(FixedQueue([Request(PROBLEMS[2], 3, seed=5)]), SAMPLING)
    assert alone.tokens.tolist() == whole[PROBLEMS[2].id, 3].tolist()


def test_further_requests_are_drawn_as_if_asked_for_at_first(engine: Engine) -> None:
    queue = Growing(REQUESTS[:6], {1: REQUESTS[6:7], 2: REQUESTS[7:]})
    rollouts = {(one.problem.id, one.sample): one for one in engine.generate(queue, SAMPLING)}
    whole = drawn_in_order(engine, REQUESTS, SAMPLING)
    found = [rollouts[request.problem.id, request.sample] for request in REQUESTS]
    assert [one.tokens.tolist() for one in found] == [one.tokens.tolist() for one in whole]
    assert queue.idle[-1]


def test_an_evaluation_gets_the_same_samples_without_log_probs(engine: Engine) -> None:
    found = drawn_in_order(engine, REQUESTS, SAMPLING, logps=False)
    assert {len(one.logps) + len(one.entropies) for one in found} == {0}
    empty = np.empty(0, np.float32)
    rollouts = drawn_in_order(engine, REQUESTS, SAMPLING)
    assert plain(found) == plain(replace(one, logps=empty, entropies=empty) for one in rollouts)


def test_a_call_that_ends_early_leaves_the_engine_free(engine: Engine) -> None:
    whole = drawn_in_order(engine, REQUESTS, SAMPLING)
    with closed_after(engine.generate(FixedQueue(REQUESTS), SAMPLING)) as rollouts:
        assert len(list(islice(rollouts, 2))) == 2
    with (
        pytest.raises(RuntimeError, match="the consumer's own"),
        closed_after(engine.generate(FixedQueue(REQUESTS), SAMPLING)) as rollouts,
    ):
        raise RuntimeError(f"the consumer's own, at {next(rollouts).sample}")
    assert plain(drawn_in_order(engine, REQUESTS, SAMPLING)) == plain(whole)


def test_nothing_asked_is_nothing_drawn(engine: Engine) -> None:
    assert list(engine.generate(FixedQueue([]), SAMPLING)) == []


def test_an_engine_says_what_it_is(engine: Engine) -> None:
    assert isinstance(engine.describe()["name"], str)
    assert engine.prompt(PROBLEMS[0]) != engine.prompt(PROBLEMS[1])
