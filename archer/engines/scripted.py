"""An engine that answers from a script: for tests, and for trying a reward without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from archer.engines.base import Finished, ignore
from archer.types import Ask, Problem, Rollout, Sampling, Stop


@dataclass
class Scripted:
    """``answer(problem, sample)`` is the response's text; its characters stand for its tokens."""

    answer: Callable[[Problem, int], str]
    version: int = 0

    def load(self, version: int) -> None:
        """Note the version."""
        self.version = version

    def generate(self, asks: Sequence[Ask], sampling: Sampling, finished: Finished = ignore) -> list[Rollout]:
        """Return the script's answers, cut at ``max_tokens`` characters."""
        rollouts = [self._rollout(ask.problem, sample, sampling) for ask in asks for sample in ask.samples]
        for rollout in rollouts:
            finished(rollout)
        return rollouts

    def _rollout(self, problem: Problem, sample: int, sampling: Sampling) -> Rollout:
        full = self.answer(problem, sample)
        text = full[: sampling.max_tokens]
        tokens = tuple(map(ord, text))
        zeros = (0.0,) * len(tokens)
        stop: Stop = "end" if text == full else "length"
        prompt = tuple(map(ord, problem.prompt))
        return Rollout(problem, sample, prompt, tokens, zeros, zeros, text, stop, self.version)
