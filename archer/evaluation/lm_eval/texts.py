"""Token ids to texts through the engine: stop strings, kept responses, and why each text ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from archer.engines.base import Engine
from archer.evaluation.lm_eval.kwargs import GenerationSettings
from archer.evaluation.lm_eval.responses import ResponseCache
from archer.types import Json, Problem, Request, Rollout, Stop

FIRST_ROUND = 32  # tokens, where a stop string may end a text early; each further round doubles what there is


class EncodedPrompts:
    """The engine's encoder for prompts that are token ids already."""

    def encode(self, problem: Problem) -> tuple[int, ...]:
        """Return the ids the problem carries."""
        return tuple(problem.meta["tokens"])


@dataclass(frozen=True)
class TextRequest:
    """One sample asked for; ``name`` and ``sample`` name its random stream."""

    name: str
    sample: int
    prompt: tuple[int, ...]


@dataclass(frozen=True)
class TextResponse:
    """``stop``: the model's end token, a stop string of the task, or the length ran out.

    ``tokens`` counts what was sampled, the rest of a round behind a stop string included.
    """

    text: str
    stop: Literal["end", "until", "length"]
    tokens: int


@dataclass(frozen=True)
class TextGenerator:
    """Answers requests. ``decode`` turns the ids of a response into its text, special tokens left out."""

    engine: Engine
    decode: Callable[[Sequence[int]], str]
    responses: ResponseCache
    seed: int

    def answer(self, requests: Sequence[TextRequest], settings: GenerationSettings) -> list[TextResponse]:
        """Return one response a request, in order; those kept from before are not sampled again."""
        keys = [self._key(request, settings) for request in requests]
        kept = [self.responses.get(key) for key in keys]
        done = {place: TextResponse(**one) for place, one in enumerate(kept) if one is not None}
        growing = {place: tuple[int, ...]() for place in range(len(requests)) if place not in done}

        def finished(rollout: Rollout) -> None:  # at once, so that little is lost when the machine stops
            place = rollout.problem.meta["place"]
            growing[place] += rollout.tokens
            response = settle(self.decode(growing[place]), rollout.stop, len(growing[place]), settings)
            if response:
                done[place] = response
                self.responses.put(keys[place], asdict(response))

        length, grown = settings.sampling.max_tokens, 0
        while growing:
            step = min(max(grown, FIRST_ROUND), length - grown) if settings.until else length
            asks = [self._ask(requests[place], place, tokens, grown) for place, tokens in growing.items()]
            self.engine.generate(asks, replace(settings.sampling, max_tokens=step), finished)
            growing = {place: tokens for place, tokens in growing.items() if place not in done}
            grown += step
        return [done[place] for place in range(len(requests))]

    def _ask(self, request: TextRequest, place: int, tokens: tuple[int, ...], grown: int) -> Request:
        """Ask for what follows ``tokens``, from a stream of its own: the same numbers twice would tie rounds."""
        name = f"{request.name}+{grown}" if grown else request.name
        meta = {"tokens": request.prompt + tokens, "place": place}
        return Request(Problem(name, "lm-eval", "", "", None, meta=meta), (request.sample,), self.seed)

    def _key(self, request: TextRequest, settings: GenerationSettings) -> Json:
        return ["text", asdict(request), asdict(settings), self.seed]


def settle(text: str, stop: Stop, tokens: int, settings: GenerationSettings) -> TextResponse | None:
    """Return the response if the text has ended: before the first stop string, which is not part of it."""
    ends = [place for one in settings.until if (place := text.find(one)) >= 0]
    if ends:
        return TextResponse(text[: min(ends)], "until", tokens)
    if stop == "end":
        return TextResponse(text, "end", tokens)
    return TextResponse(text, "length", tokens) if tokens >= settings.sampling.max_tokens else None
