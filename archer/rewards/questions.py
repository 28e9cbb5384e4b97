"""What the grader asks about a response: a verdict on its text, on its program, or by a reward's ``grade_batch``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import cast

from archer.errors import ArcherError, DataError, GraderError
from archer.parts import is_outside
from archer.recipe.rewards import first_reward
from archer.rewards import find_reward
from archer.rewards.base import AnyReward, Gradable, ProgramReward, Response, Reward, TextReward, kind_of
from archer.rewards.batches import Asked, checked, portable
from archer.sandbox.base import ProgramJob
from archer.types import Json, Problem, Verdict


@dataclass(frozen=True)
class TextQuestion:
    """An answer to judge; equal ones earn the same verdict."""

    name: str
    key: str  # the gold as JSON: golds may be lists, which do not hash
    answer: str | None
    gold: Json = field(compare=False)
    reward: TextReward | None = field(compare=False)  # None on the way to a worker, which finds an outside one by name
    problem_id: str = field(compare=False)


@dataclass(frozen=True)
class ProgramQuestion:
    """A program to run; equal ones run once."""

    source: str
    problem_id: str
    gold: int  # the object's identity: a problem that comes again may come with other tests
    program: str
    job: ProgramJob = field(compare=False)
    reward: ProgramReward = field(compare=False)
    problem: Problem = field(compare=False)


Question = TextQuestion | ProgramQuestion | Asked | Verdict


def question_of(rollout: Gradable, name: str, reward: AnyReward) -> Question:
    """Return what one reward is asked about a response, or its verdict where that is known already."""
    problem, kind = rollout.problem, kind_of(reward)
    if kind == "batch":
        return Asked(name, cast(Reward, reward), Response.of(rollout))
    if kind == "program":
        program_reward = cast(ProgramReward, reward)
        job = program_reward.job(problem, rollout.text)
        if isinstance(job, Verdict):
            return job
        gold = id(problem.gold)
        return ProgramQuestion(problem.source, problem.id, gold, job.program, job, program_reward, problem)
    text_reward = cast(TextReward, reward)
    key, answer = json.dumps(problem.gold, sort_keys=True), text_reward.extract(rollout.text)
    return TextQuestion(name, key, answer, problem.gold, text_reward, problem.id)


def reward_of_question(text: TextQuestion) -> TextReward:
    """Return the reward that judges a text, here or in a worker."""
    return text.reward or cast(TextReward, find_reward(text.name))


def is_plain(text: TextQuestion) -> bool:
    """Whether a text is judged in this process. Raises DataError naming the problem for a malformed gold."""
    try:
        return reward_of_question(text).is_plain(text.gold, text.answer)
    except DataError as error:
        raise DataError(f"problem {text.problem_id}: {error}") from error


def judge_text(text: TextQuestion) -> Verdict:
    """Judge here or in a worker, where MemoryError has a meaning of its own (``archer.rewards.workers``)."""
    try:
        verdict = reward_of_question(text).judge(text.gold, text.answer)
    except (ArcherError, MemoryError):
        raise
    except Exception as error:
        raise GraderError(
            f"problem {text.problem_id}: reward {text.name!r} raised {error!r} on {(text.answer or '')[:200]!r}"
        ) from error
    return checked(verdict, f"problem {text.problem_id}: reward {text.name!r}")


def for_worker(text: TextQuestion) -> TextQuestion:
    """Return the question as it is sent to a worker: an outside reward's class goes by its name."""
    return replace(text, name=portable(text.name), reward=None) if is_outside(first_reward(text.name)) else text
