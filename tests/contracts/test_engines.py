"""What every engine of token ids must do: each sample once, from its own stream, within its length, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from archer.engines import open_engine
from archer.engines.base import Completion, Engine, sample_seed
from archer.engines.scripted import ScriptedEngine
from archer.engines.spec import EngineSpec
from archer.models.spec import ModelSpec
from archer.problems.lab import TASKS
from archer.recipe.sections import ModelSection, RolloutSection
from archer.types import Request, Sampling

PROBLEMS = [TASKS[name].problem("train", index) for index in range(2) for name in TASKS]
SAMPLING = Sampling(max_tokens=24)
REQUESTS = [Request(problem, (0, 3, 1), seed=5) for problem in PROBLEMS]


def native(tiny: Path) -> Engine:
    return open_engine(EngineSpec(RolloutSection(max_concurrency=7), ModelSpec(ModelSection(str(tiny)))))


def scripted(tiny: Path) -> Engine:
    return ScriptedEngine(lambda problem, sample: f"{problem.id[:8]}.{sample}")


@pytest.fixture(params=[native, scripted], ids=lambda make: make.__name__)
def engine(request: pytest.FixtureRequest, tiny: Path) -> Engine:
    make: Callable[[Path], Engine] = request.param
    return make(tiny)


def test_every_sample_comes_once_and_in_the_order_asked(engine: Engine) -> None:
    rollouts = engine.generate(REQUESTS, SAMPLING)
    asked = [(request.problem.id, sample) for request in REQUESTS for sample in request.samples]
    assert [(rollout.problem.id, rollout.sample) for rollout in rollouts] == asked


def test_a_rollout_is_whole(engine: Engine) -> None:
    for rollout in engine.generate(REQUESTS, SAMPLING):
        assert 1 <= len(rollout.tokens) <= SAMPLING.max_tokens
        assert len(rollout.logps) == len(rollout.tokens)
        assert all(logp <= 0 for logp in rollout.logps)
        assert rollout.stop == ("end" if len(rollout.tokens) < SAMPLING.max_tokens else rollout.stop)
        assert rollout.stop in ("end", "length")


def test_a_sample_depends_on_its_own_stream_alone(engine: Engine) -> None:
    whole = {(one.problem.id, one.sample): one.tokens for one in engine.generate(REQUESTS, SAMPLING)}
    [alone] = engine.generate([Request(PROBLEMS[2], (3,), seed=5)], SAMPLING)
    assert alone.tokens == whole[PROBLEMS[2].id, 3]


def test_each_rollout_is_told_of_as_it_ends(engine: Engine) -> None:
    told: list[tuple[str, int]] = []
    rollouts = engine.generate(REQUESTS, SAMPLING, lambda rollout: told.append((rollout.problem.id, rollout.sample)))
    assert sorted(told) == sorted((rollout.problem.id, rollout.sample) for rollout in rollouts)


def test_an_evaluation_gets_the_same_samples(engine: Engine) -> None:
    completions: list[Completion] = []
    engine.complete(REQUESTS, SAMPLING, completions.append)
    found = {(one.problem.id, one.sample): (one.text, one.tokens, one.stop) for one in completions}
    rollouts = engine.generate(REQUESTS, SAMPLING)
    assert found == {(one.problem.id, one.sample): (one.text, len(one.tokens), one.stop) for one in rollouts}
    assert {one.seed for one in completions if one.sample == 3 and one.problem is PROBLEMS[0]} == {
        sample_seed(5, PROBLEMS[0].id, 3)
    }


def test_an_engine_says_what_it_is(engine: Engine) -> None:
    assert isinstance(engine.describe()["name"], str)
    assert engine.prompt(PROBLEMS[0]) != engine.prompt(PROBLEMS[1])
