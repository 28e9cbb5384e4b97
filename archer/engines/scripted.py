"""An engine whose responses come from a script, for tests and for trying a reward without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from archer.engines.base import Weights, seed_of
from archer.engines.queue import RequestQueue
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

    def generate(self, queue: RequestQueue, sampling: Sampling) -> Iterator[Rollout]:
        """Yield the script's responses, cut at ``max_tokens`` characters."""
        while requests := queue.take(1, True):
            yield self._rollout(requests[0], sampling, queue.logps)

    def prompt(self, problem: Problem) -> Json:
        """Return the problem's own prompt."""
        return problem.prompt

    def describe(self) -> Mapping[str, Json]:
        """Return the name."""
        return {"name": "scripted"}

    def _rollout(self, request: Request, sampling: Sampling, logps: bool) -> Rollout:
        problem, full = request.problem, self.script(request.problem, request.sample)
        text = full[: sampling.max_tokens]
        prompt, tokens = (np.array([ord(letter) for letter in one], np.int32) for one in (problem.prompt, text))
        zeros = np.zeros(len(tokens) if logps else 0, np.float32)
        stop: Stop = "end" if text == full else "length"
        seed = seed_of(request)
        return Rollout(problem, request.sample, prompt, tokens, zeros, zeros, text, stop, self.version, seed)
