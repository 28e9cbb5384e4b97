"""Rewards that grade responses by ``grade_batch``: here, in killable workers, or in threads that wait for a server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from archer.errors import ArcherError, GraderError, raised
from archer.parts import is_outside
from archer.recipe.rewards import reward_entries, reward_spec
from archer.rewards import find_reward
from archer.rewards.base import Response, Reward, is_group, runs_in
from archer.rewards.services import ServiceThreads
from archer.rewards.workers import Killed, Workers
from archer.types import Verdict, contradicts

Started = dict["ServiceKey", "Future[list[Verdict]]"]
ServiceKey = tuple[str, str, str, int, str]


@dataclass(frozen=True, eq=False)
class Asked:
    """A response that a reward is to grade; ``name`` is the reward's spec. Equal ones are graded each by itself."""

    name: str
    reward: Reward
    response: Response

    @property
    def key(self) -> ServiceKey:
        """What tells this question from others of a run."""
        problem = self.response.problem
        return self.name, problem.source, problem.id, self.response.sample, self.response.text

    @property
    def early(self) -> bool:
        """Whether it can be asked while other responses are still being sampled."""
        return runs_in(self.reward) == "service" and not is_group(self.reward)


def grade_batches(
    asked: Sequence[Asked], workers: Workers, services: ServiceThreads[list[Verdict]], started: Started
) -> dict[Asked, Verdict]:
    """Return a verdict for each question. Raises GraderError where a reward raises, and what its service raises."""
    calls = _calls(asked)
    waiting = [(call, _begin(call, services, started)) for call in calls if runs_in(call[0].reward) == "service"]
    killable = [call for call in calls if runs_in(call[0].reward) == "worker"]
    verdicts: dict[Asked, Verdict] = {}
    for call in calls:
        if runs_in(call[0].reward) == "inline":
            verdicts |= zip(call, grade_call(call), strict=True)
    tasks = [(portable(call[0].name), [one.response for one in call]) for call in killable]
    for call, result in zip(killable, workers.run(_grade_named, tasks), strict=True):
        found = [Verdict(0.0, False, result.reason)] * len(call) if isinstance(result, Killed) else result
        verdicts |= zip(call, found, strict=True)
    for call, future in waiting:
        verdicts |= zip(call, future.result(), strict=True)
    return verdicts


def begin_early(asked: Asked, services: ServiceThreads[list[Verdict]], started: Started) -> None:
    """Ask a service about one response, before its batch is complete."""
    if asked.early and asked.key not in started:
        started[asked.key] = _begin([asked], services, started)


def grade_call(call: Sequence[Asked]) -> list[Verdict]:
    """Return a reward's verdicts on responses to one problem, checked. Raises GraderError naming both."""
    first, items = call[0], [one.response for one in call]
    where = f"problem {items[0].problem.id}: reward {first.name!r}"
    try:
        verdicts = list(first.reward.grade_batch(items))
    except (ArcherError, MemoryError):  # MemoryError has a meaning of its own in a worker
        raise
    except Exception as error:  # whatever a user's reward raises
        raise GraderError(f"{where} raised {raised(error)} on {items[0].text[:200]!r}") from error
    if len(verdicts) != len(items):
        raise GraderError(f"{where}: {len(items)} responses went in, {len(verdicts)} verdicts came back")
    return [checked(verdict, where, item.tokens) for verdict, item in zip(verdicts, items, strict=True)]


def checked(verdict: Verdict, where: str, tokens: int = 0) -> Verdict:
    """Return a verdict in plain numbers, as every record can be written. Raises GraderError for what is no verdict."""
    if not isinstance(verdict, Verdict):
        raise GraderError(f"{where}: expected a Verdict, found {verdict!r}")
    if not _are_numbers((verdict.score, *verdict.token_scores)):
        raise GraderError(f"{where}: a score is no finite number: {verdict!r}")
    if tokens and len(verdict.token_scores) not in (0, tokens):
        raise GraderError(f"{where}: {len(verdict.token_scores)} token scores for {tokens} tokens")
    if not isinstance(verdict.reason, str) or contradicts(verdict.passed, verdict.reason):
        raise GraderError(
            f"{where}: passed is {verdict.passed}, which its reason {verdict.reason!r} denies; a reason is a word, "
            "'right' only where it passes, 'wrong' and 'no_answer' only where it does not"
        )
    if type(verdict.score) is float and type(verdict.passed) is bool and verdict.token_scores == ():
        return verdict
    return replace(
        verdict, score=float(verdict.score), passed=bool(verdict.passed),
        token_scores=tuple(map(float, verdict.token_scores)),
    )  # fmt: skip


def _are_numbers(scores: Sequence[float]) -> bool:
    try:
        return all(map(math.isfinite, scores))
    except TypeError:  # None, a text
        return False


def _calls(asked: Sequence[Asked]) -> list[list[Asked]]:
    """Return the questions of each call: one problem's together, but one by one where a call may be killed or wait."""
    calls: dict[tuple[object, ...], list[Asked]] = {}
    for one in asked:
        problem = one.response.problem
        together = is_group(one.reward) or runs_in(one.reward) == "inline"
        calls.setdefault((one.name, problem.source, problem.id, None if together else id(one)), []).append(one)
    for call in calls.values():
        call.sort(key=lambda one: one.response.sample)
    return list(calls.values())


def _begin(call: list[Asked], services: ServiceThreads[list[Verdict]], started: Started) -> Future[list[Verdict]]:
    if len(call) == 1 and call[0].key in started:
        return started[call[0].key]
    return services.submit(call[0].reward, lambda: grade_call(call))


def portable(spec: str) -> str:
    """Return a reward's spec with the whole path of its file: a worker may be started elsewhere."""
    [entry] = reward_entries(spec)
    file, _, name = entry.name.rpartition(":")
    if not is_outside(entry.name) or not file.endswith(".py"):
        return spec
    return reward_spec(replace(entry, name=f"{Path(file).expanduser().absolute()}:{name}").spec)


def _grade_named(spec: str, items: Sequence[Response]) -> list[Verdict]:
    """In a worker: a class of a user's file cannot be sent, so it is found again by its name."""
    reward = find_reward(spec)
    if not isinstance(reward, Reward):
        raise GraderError(f"reward {spec!r} has no grade_batch in the worker")
    return grade_call([Asked(spec, reward, item) for item in items])
