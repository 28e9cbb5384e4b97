"""What engines that sample token ids share: requests to prompts, and sampled tokens to rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from archer.engines.base import seed_of
from archer.errors import DataError
from archer.models.prompts import PromptEncoder
from archer.types import Request, Rollout, Stop

THINK = "<think>"
TAIL = 16  # last tokens of a prompt, enough to hold it and trailing white space


class TokenCoder:
    """Encodes the requests of one call, and makes rollouts of the tokens sampled for them.

    - ``stops``: token ids that end a response
    - ``version``: training steps behind the weights
    - ``max_tokens``, ``context``: most tokens of a response, and of prompt and response together (None: unbounded)
    - ``logps``: whether rollouts keep log-probs and entropies
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prompts: PromptEncoder, stops: Sequence[int], version: int,
        max_tokens: int, context: int | None, logps: bool,
    ) -> None:  # fmt: skip
        self.tokenizer, self.prompts, self.stops, self.version = tokenizer, prompts, tuple(stops), version
        self.max_tokens, self.context, self.logps = max_tokens, context, logps
        self._arrays: dict[tuple[int, ...], NDArray[np.int32]] = {}  # one array for all samples of a prompt

    def prompt(self, request: Request) -> tuple[int, ...]:
        """Return the prompt's token ids. Raises DataError if prompt and response do not fit into the context."""
        prompt = self.prompts.encode(request.problem)
        check_width(request.problem.id, len(prompt), self.max_tokens, self.context)
        return prompt

    def width(self, requests: Sequence[Request]) -> int:
        """Return the most tokens that prompt and response of one of ``requests`` may have, 0 for none."""
        return max((len(self.prompt(request)) + self.max_tokens for request in requests), default=0)

    def rollout(
        self, request: Request, tokens: NDArray[np.int32], logps: NDArray[np.float32], entropies: NDArray[np.float32]
    ) -> Rollout:
        """Return a finished response: its tokens (T,) with the end token if there is one, and their statistics."""
        prompt, ids = self.prompts.encode(request.problem), tokens.tolist()
        stop: Stop = "end" if ids[-1] in self.stops else "length"
        text = text_of(self.tokenizer, prompt, ids[:-1] if stop == "end" else ids)
        array = self._arrays.setdefault(prompt, np.array(prompt, np.int32))
        if not self.logps:
            logps = entropies = np.empty(0, np.float32)
        return Rollout(
            request.problem, request.sample, array, tokens, logps, entropies, text, stop, self.version, seed_of(request)
        )


def check_width(problem: str, prompt: int, max_tokens: int, context: int | None) -> None:
    """Raise DataError when a prompt and its response do not fit into the model's context."""
    if context is not None and prompt + max_tokens > context:
        raise DataError(
            f"{problem}: a prompt of {prompt} tokens and a response make {prompt + max_tokens} tokens, the model "
            f"holds {context}; lower `max_tokens`, or state a longer `model.context` (rotary positions go on)"
        )


def text_of(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], tokens: Sequence[int]) -> str:
    """Return a response's text, with ``<think>`` in front if the prompt ends with it; ``tokens`` exclude the end token.

    A grader looks for the end of the thinking, so the text must contain its beginning.
    """
    return opener(tokenizer, tuple(prompt[-TAIL:])) + str(tokenizer.decode(list(tokens), skip_special_tokens=True))


@lru_cache(maxsize=4096)  # prompts of one chat template end alike
def opener(tokenizer: PreTrainedTokenizerBase, tail: tuple[int, ...]) -> str:
    """Return ``<think>`` if a prompt that ends in ``tail`` ends with it, else ""."""
    return THINK if tokenizer.decode(list(tail)).rstrip().endswith(THINK) else ""
