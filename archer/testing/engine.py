"""What every engine must do: each request once, from its own random stream, whatever is sampled beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from archer.engines.base import Generator, sample_seed
from archer.engines.queue import FixedQueue, closed_after, requests_for, take_first
from archer.problems.lab import TASKS
from archer.types import Problem, Request, Rollout, Sampling

SEED, SAMPLES = 5, (0, 3, 1)
Drawn = tuple[list[int], str, str, int]  # tokens, text, stop, length


class LateQueue:
    """A queue whose last requests come one by one, as dynamic sampling asks for them."""

    logps, growing = True, True

    def __init__(self, requests: Sequence[Request], late: int) -> None:
        self.waiting = deque(requests[:-late])
        self.late = deque(requests[-late:])

    def take(self, free: int, idle: bool) -> list[Request]:
        """Return waiting requests; once there is none, a late one, first of all where the engine is idle."""
        if not self.waiting and free and self.late:
            self.waiting.append(self.late.popleft())
        return take_first(self.waiting, free)


def check_engine(engine: Generator, problems: Sequence[Problem] = (), sampling: Sampling | None = None) -> None:
    """Sample with an engine; raise AssertionError with a sentence for the first thing that does not hold.

    - every request is answered once, by a rollout of its problem, sample and seed;
    - a rollout has an end, 1 to ``max_tokens`` tokens, a log-prob of at most 0 for each, and their types (ids int32,
      log-probs float32);
    - a sample is the same alone, beside others, when it is asked for late, and in an evaluation;
    - a call that is closed early leaves the engine free for the next one;
    - two problems have two prompts, and the engine has a name.

    ``problems`` (none: a few of the lab's) need at least two that differ; ``sampling`` (none: 24 tokens).
    """
    problems = problems or [TASKS[name].problem("train", index) for index in range(2) for name in TASKS]
    sampling = sampling or Sampling(max_tokens=24)
    requests = [request for problem in problems for request in requests_for(problem, SAMPLES, SEED)]
    rollouts = list(engine.generate(FixedQueue(requests), sampling))
    asked = sorted((request.problem.id, request.sample) for request in requests)
    told = sorted((rollout.problem.id, rollout.sample) for rollout in rollouts)
    assert told == asked, f"asked for {asked}, got {told}"
    own = {id(request.problem) for request in requests}
    assert all(id(rollout.problem) in own for rollout in rollouts), "a rollout's problem is a copy of its request's"
    for rollout in rollouts:
        check_rollout(rollout, sampling)
    whole = by_sample(rollouts)
    ways: Mapping[str, FixedQueue | LateQueue] = {
        "alone": FixedQueue([Request(problems[0], SAMPLES[1], SEED)]),
        "asked for late": LateQueue(requests, len(requests) // 2),
        "of an evaluation, without log-probs,": FixedQueue(requests, logps=False),
    }
    for way, queue in ways.items():
        for key, drawn in by_sample(engine.generate(queue, sampling)).items():
            assert drawn == whole[key], f"a sample {way} differs: {drawn} instead of {whole[key]}"
    with closed_after(engine.generate(FixedQueue(requests), sampling)) as begun:
        list(islice(begun, 1))
    again = by_sample(engine.generate(FixedQueue(requests), sampling))
    assert again == whole, "after a call that was closed early the next one samples something else"
    assert list(engine.generate(FixedQueue([]), sampling)) == [], "rollouts that nobody asked for"
    assert engine.prompt(problems[0]) != engine.prompt(problems[1]), "two problems have the same prompt"
    assert isinstance(engine.describe().get("name"), str), "describe() has no name"


def check_rollout(rollout: Rollout, sampling: Sampling) -> None:
    """Raise AssertionError where a rollout for training is not whole."""
    where = f"{rollout.problem.id}, sample {rollout.sample}"
    expected = sample_seed(SEED, rollout.problem.id, rollout.sample)
    assert rollout.seed == expected, f"{where}: seed {rollout.seed}, expected {expected} (sample_seed)"
    length = len(rollout.tokens)
    assert 1 <= length <= sampling.max_tokens, f"{where}: {length} tokens of at most {sampling.max_tokens}"
    assert rollout.length == length == len(rollout.logps), f"{where}: {len(rollout.logps)} log-probs, {length} tokens"
    assert len(rollout.entropies) in (0, length), f"{where}: {len(rollout.entropies)} entropies, {length} tokens"
    kinds = [column.dtype.name for column in (rollout.prompt_tokens, rollout.tokens, rollout.logps, rollout.entropies)]
    assert kinds == ["int32", "int32", "float32", "float32"], f"{where}: columns are {kinds}"
    assert (rollout.logps <= 0).all(), f"{where}: a log-prob above 0: {rollout.logps.max()}"
    assert rollout.stop in ("end", "length"), f"{where}: stop {rollout.stop!r}"
    assert rollout.stop == "end" or length == sampling.max_tokens, f"{where}: cut after {length} tokens"


def by_sample(rollouts: Iterable[Rollout]) -> dict[tuple[str, int], Drawn]:
    """Return what was sampled, by problem and sample."""
    return {(one.problem.id, one.sample): (one.tokens.tolist(), one.text, one.stop, one.length) for one in rollouts}
