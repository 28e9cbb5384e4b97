"""What a reward is: the one method that a user writes, and two kinds that offer more to the grader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal, Protocol, runtime_checkable

from archer.sandbox.base import Outcome, ProgramJob
from archer.types import Json, Problem, Stop, Verdict

RunsIn = Literal["inline", "worker", "sandbox", "service"]


class Gradable(Protocol):
    """What the grader reads of a response, in training or evaluation; ``length`` is in tokens, 0 if not known."""

    @property
    def problem(self) -> Problem: ...
    @property
    def sample(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def stop(self) -> Stop: ...
    @property
    def length(self) -> int: ...


@dataclass(frozen=True)
class Response:
    """One response as a reward reads it.

    ``problem`` has prompt, gold and meta; ``stop`` is ``end``, or ``length`` where the response was cut; ``tokens`` is
    its length in tokens, the end token included, 0 where it is not known (``archer.verify``, lm-eval).
    """

    problem: Problem
    sample: int
    text: str
    stop: Stop = "end"
    tokens: int = 0

    @classmethod
    def of(cls, one: Gradable) -> Response:
        """Return what a reward reads of a rollout."""
        return cls(one.problem, one.sample, one.text, one.stop, one.length)


@runtime_checkable
class Reward(Protocol):
    """Grades responses: a frozen dataclass of its options with this method.

    The responses of one call are of one problem. What a reward may say of itself beside it, as class attributes:

    - ``runs_in``: ``inline`` (the default) in this process; ``worker`` in a process that is killed after
      ``reward.seconds`` of CPU time, one response a call; ``service`` in threads while other responses are still being
      sampled, one response a call, at most ``concurrency`` calls at a time
    - ``group``: True gets all samples of a problem in one call, in their order
    - ``rules``: a version number, raised whenever the verdict on any response could change
    - ``check()``: raises UserError where the reward cannot run here; called before anything is sampled
    - ``describe()``: more of what its verdicts depend on, for a result's ``verifier``
    """

    def grade_batch(self, items: Sequence[Response]) -> list[Verdict]:
        """Return one verdict a response, in order. An exception ends the run: it is never a score."""
        ...


@runtime_checkable
class TextReward(Protocol):
    """Judges what a response says. ``reward(problem, text)`` is ``judge(problem.gold, extract(text))``.

    It runs in a worker, but for answers that are plain. ``rules`` is a version number, raised whenever the verdict on
    any answer could change.
    """

    rules: ClassVar[int]

    def __call__(self, problem: Problem, text: str) -> Verdict:
        """Judge one response in this process, without a time limit."""
        ...

    def extract(self, text: str) -> str | None:
        """Return the part of the response that counts, None if it holds no answer."""
        ...

    def is_plain(self, gold: Json, answer: str | None) -> bool:
        """Return whether :meth:`judge` is cheap and safe outside a worker."""
        ...

    def judge(self, gold: Json, answer: str | None) -> Verdict:
        """Judge an extracted answer. Pure: equal arguments are judged once."""
        ...

    def verdict(self, reason: str, answer: str = "") -> Verdict:
        """Return the verdict for a reason, which may be one of the grader's (``timeout``, ``memory``)."""
        ...


@runtime_checkable
class ProgramReward(Protocol):
    """Judges what a program does: makes a job for the sandbox, then judges its outcome outside of it.

    ``rules`` is a version number, raised whenever the verdict on any program could change.
    """

    rules: ClassVar[int]

    def job(self, problem: Problem, text: str) -> ProgramJob | Verdict:
        """Return the job that tests the response's program, or the verdict on a response without one."""
        ...

    def judge(self, problem: Problem, outcome: Outcome) -> Verdict:
        """Judge what the program did."""
        ...


AnyReward = TextReward | ProgramReward | Reward


def kind_of(reward: AnyReward) -> Literal["text", "program", "batch"]:
    """Return which of the three a reward is."""
    return _kind(type(reward))


@cache
def _kind(kind: type) -> Literal["text", "program", "batch"]:
    """Decide by the class, once: asking a Protocol about each response would take longer than to judge it."""
    if hasattr(kind, "job"):
        return "program"
    return "text" if hasattr(kind, "extract") else "batch"


def runs_in(reward: AnyReward) -> RunsIn:
    """Return where a reward runs."""
    kind = kind_of(reward)
    if kind == "batch":
        where: RunsIn = getattr(reward, "runs_in", "inline")
        return where
    return "worker" if kind == "text" else "sandbox"


def is_group(reward: AnyReward) -> bool:
    """Whether a reward compares all samples of a problem."""
    return bool(getattr(reward, "group", False))


@dataclass(frozen=True)
class WeightedReward:
    """One reward of a sum: its spec, its name in metrics, its weight."""

    spec: str
    label: str
    weight: float
    reward: AnyReward


@dataclass(frozen=True)
class RewardSum:
    """Several rewards of one response: the score is the weighted sum, all else is the first one's."""

    parts: tuple[WeightedReward, ...]

    def verdict(self, verdicts: Sequence[Verdict]) -> Verdict:
        """Return the verdict on a response from those of the parts, in their order."""
        pairs = list(zip(self.parts, verdicts, strict=True))
        first, score = verdicts[0], sum(part.weight * verdict.score for part, verdict in pairs)
        parts = tuple((part.label, verdict.score) for part, verdict in pairs)
        scored = [(part.weight, verdict.token_scores) for part, verdict in pairs if verdict.token_scores]
        columns = zip(*(scores for _, scores in scored), strict=True)
        weights = [weight for weight, _ in scored]
        tokens = tuple(sum(w * one for w, one in zip(weights, column, strict=True)) for column in columns)
        return Verdict(score, first.passed, first.reason, first.answer, parts, tokens)
