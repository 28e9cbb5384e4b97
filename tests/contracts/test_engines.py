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
from archer.engines.base import Engine
from archer.engines.queue import FixedQueue, RequestQueue, closed_after
from archer.engines.scripted import ScriptedEngine
from archer.engines.spec import EngineSpec
from archer.models.spec import ModelSpec
from archer.problems.lab import TASKS
from archer.recipe.sections import ModelSection, RolloutSection, SglangSection
from archer.testing import check_engine
from archer.types import Rollout, Sampling

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


def test_an_engine_passes_the_suite(engine: Engine) -> None:
    check_engine(engine, PROBLEMS, SAMPLING)


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


class Faulty(ScriptedEngine):
    """A scripted engine with one fault."""

    fault = ""

    def generate(self, queue: RequestQueue, sampling: Sampling) -> Iterator[Rollout]:
        self.calls = getattr(self, "calls", 0) + 1
        for number, rollout in enumerate(super().generate(queue, sampling)):
            if self.fault == "drops" and number == 4:
                continue
            if self.fault == "types":
                rollout = replace(rollout, tokens=rollout.tokens.astype(np.int64))
            if self.fault == "seed":
                rollout = replace(rollout, seed=3)
            if self.fault == "order" and number % 2:
                rollout = replace(rollout, text=f"{rollout.text}{number}")
            if self.fault == "state" and self.calls > 4:
                rollout = replace(rollout, text=f"{rollout.text}.")
            yield rollout


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("drops", "asked for"),
        ("types", "columns are"),
        ("seed", "seed 3, expected"),
        ("order", "a sample alone differs"),
        ("state", "the next one samples something else"),
    ],
)
def test_a_faulty_engine_is_found(fault: str, message: str) -> None:
    engine = Faulty(lambda problem, sample: f"{problem.id[:8]}.{sample}")
    check_engine(engine)
    engine.fault, engine.calls = fault, 0
    with pytest.raises(AssertionError, match=message):
        check_engine(engine)
