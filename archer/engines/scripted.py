"""An engine that answers from a script: for tests, and for trying a reward without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from archer.engines.base import Completion, MoreRequests, OnCompletion, OnRollout, Weights, ignore, no_more, sample_seed
from archer.types import Json, Problem, Request, Rollout, Sampling, Stop


@dataclass
class ScriptedEngine:
    """``script(problem, sample)`` is the response's text; its characters stand for its tokens."""

    script: Callable[[Problem, int], str]
    version: int = 0

    def load(self, version: int, weights: Weights) -> None:
        """Note the version."""
        self.version = version

    def close(self) -> None:
        """Nothing was started."""

    def generate(
        self, asks: Sequence[Request], sampling: Sampling, finished: OnRollout = ignore, more: MoreRequests = no_more
    ) -> list[Rollout]:
        """Return the script's answers, cut at ``max_tokens`` characters."""
        rollouts: list[Rollout] = []
        while asks:
            new = [self._rollout(ask.problem, sample, sampling) for ask in asks for sample in ask.samples]
            for rollout in new:
                finished(rollout)
            rollouts += new
            asks = more(True)
        return rollouts

    def complete(self, asks: Sequence[Request], sampling: Sampling, answered: OnCompletion) -> None:
        """Give the script's answers, cut at ``max_tokens`` characters."""
        for ask in asks:
            for sample in ask.samples:
                one = self._rollout(ask.problem, sample, sampling)
                seed = sample_seed(ask.seed, ask.problem.id, sample)
                answered(Completion(ask.problem, sample, seed, one.text, len(one.tokens), one.stop))

    def prompt(self, problem: Problem) -> Json:
        """Return the problem's own prompt."""
        return problem.prompt

    def describe(self) -> Mapping[str, Json]:
        """Return the name."""
        return {"name": "scripted"}

    def _rollout(self, problem: Problem, sample: int, sampling: Sampling) -> Rollout:
        full = self.script(problem, sample)
        text = full[: sampling.max_tokens]
        tokens = tuple(map(ord, text))
        zeros = (0.0,) * len(tokens)
        stop: Stop = "end" if text == full else "length"
        prompt = tuple(map(ord, problem.prompt))
        return Rollout(problem, sample, prompt, tokens, zeros, zeros, text, stop, self.version)
