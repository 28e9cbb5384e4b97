"""Turn token ids into texts through the engine: stop strings, stored responses, and why each text ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from archer.engines.base import Engine
from archer.engines.queue import FixedQueue, closed_after
from archer.evaluation.lm_eval.kwargs import GenerationSettings
from archer.evaluation.lm_eval.responses import ResponseCache
from archer.types import Json, Problem, Request, Rollout, Stop

FIRST_ROUND = 32  # tokens of the first round if there are stop strings; each further round doubles the text


class EncodedPrompts:
    """The engine's prompt encoder for problems that carry token ids."""

    def encode(self, problem: Problem) -> tuple[int, ...]:
        """Return the ids that the problem carries."""
        return tuple(problem.meta["tokens"])


@dataclass(frozen=True)
class TextRequest:
    """A request for one sample; ``name`` and ``sample`` name its random stream."""

    name: str
    sample: int
    prompt: tuple[int, ...]


@dataclass(frozen=True)
class TextResponse:
    """A text and why it ended: at the model's end token, at a stop string of the task, or at the length limit.

    ``tokens`` counts all sampled tokens, those behind a stop string included.
    """

    text: str
    stop: Literal["end", "until", "length"]
    tokens: int


@dataclass(frozen=True)
class TextGenerator:
    """Answers requests. ``decode`` turns a response's ids into text without special tokens."""

    engine: Engine
    decode: Callable[[Sequence[int]], str]
    responses: ResponseCache
    seed: int

    def answer(self, requests: Sequence[TextRequest], settings: GenerationSettings) -> list[TextResponse]:
        """Return one response per request, in order; stored responses are not sampled again."""
        keys = [self._key(request, settings) for request in requests]
        stored = [self.responses.get(key) for key in keys]
        done = {index: TextResponse(**values) for index, values in enumerate(stored) if values is not None}
        growing = {index: tuple[int, ...]() for index in range(len(requests)) if index not in done}

        def finished(rollout: Rollout) -> None:  # stored at once, so that little is lost if the machine stops
            index = rollout.problem.meta["index"]
            growing[index] += tuple(rollout.tokens.tolist())
            response = settle(self.decode(growing[index]), rollout.stop, len(growing[index]), settings)
            if response:
                done[index] = response
                self.responses.put(keys[index], asdict(response))

        length, grown = settings.sampling.max_tokens, 0
        while growing:
            step = min(max(grown, FIRST_ROUND), length - grown) if settings.until else length
            asks = [self._ask(requests[index], index, tokens, grown) for index, tokens in growing.items()]
            queue, sampling = FixedQueue(asks, logps=False), replace(settings.sampling, max_tokens=step)
            with closed_after(self.engine.generate(queue, sampling)) as rollouts:
                for rollout in rollouts:
                    finished(rollout)
            growing = {index: tokens for index, tokens in growing.items() if index not in done}
            grown += step
        return [done[index] for index in range(len(requests))]

    def _ask(self, request: TextRequest, index: int, tokens: tuple[int, ...], grown: int) -> Request:
        """Return a request for what follows ``tokens``, from a random stream of its own for each round."""
        name = f"{request.name}+{grown}" if grown else request.name
        meta = {"tokens": request.prompt + tokens, "index": index}
        return Request(Problem(name, "lm-eval", "", "", None, meta=meta), request.sample, self.seed)

    def _key(self, request: TextRequest, settings: GenerationSettings) -> Json:
        return ["text", asdict(request), asdict(settings), self.seed]


def settle(text: str, stop: Stop, tokens: int, settings: GenerationSettings) -> TextResponse | None:
    """Return the response if the text has ended, else None. A text ends before its first stop string."""
    starts = [start for until in settings.until if (start := text.find(until)) >= 0]
    if starts:
        return TextResponse(text[: min(starts)], "until", tokens)
    if stop == "end":
        return TextResponse(text, "end", tokens)
    return TextResponse(text, "length", tokens) if tokens >= settings.sampling.max_tokens else None
