"""An engine whose responses come from a script, for tests and for trying a reward without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from archer.engines.base import Completion, MoreRequests, OnCompletion, OnRollout, Weights, ignore, no_more, sample_seed
from archer.types import Json, Problem, Request, Rollout, Sampling, Stop


@dataclass
class ScriptedEngine:
    """An :class:`~archer.engines.base.Engine`; ``script(problem, sample)`` returns the text, a character per token."""

    script: Callable[[Problem, int], str]
    version: int = 0

    def load(self, version: int, weights: Weights) -> None:
        """Record the version; the weights are ignored."""
        self.version = version

    def close(self) -> None:
        """Do nothing: the script needs no process."""

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_rollout: OnRollout = ignore,
        more: MoreRequests = no_more,
    ) -> list[Rollout]:
        """Return the script's responses, cut at ``max_tokens`` characters."""
        rollouts: list[Rollout] = []
        while requests:
            new = [
                self._rollout(request.problem, sample, sampling) for request in requests for sample in request.samples
            ]
            for rollout in new:
                on_rollout(rollout)
            rollouts += new
            requests = more(True)
        return rollouts

    def complete(self, requests: Sequence[Request], sampling: Sampling, on_completion: OnCompletion) -> None:
        """Pass the script's responses, cut at ``max_tokens`` characters, to ``on_completion``."""
        for request in requests:
            for sample in request.samples:
                rollout = self._rollout(request.problem, sample, sampling)
                seed = sample_seed(request.seed, request.problem.id, sample)
                on_completion(
                    Completion(request.problem, sample, seed, rollout.text, len(rollout.tokens), rollout.stop)
                )

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
