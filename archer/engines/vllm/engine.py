"""The vLLM engine: prompts as token ids in, sampled tokens with their log-probs out, the same shape as the native one.

Log-probs are of softmax(logits / temperature), as vLLM samples; entropies it does not tell. Every sample has a seed of
its own. Who draws is a :class:`~archer.engines.vllm.backend.Host`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from archer.engines.base import Answered, Finished, More, Weights, ignore, no_more
from archer.engines.decode_buffer import Ended, Row
from archer.engines.requests import collected, rows_of, text_of
from archer.engines.vllm.backend import Drawn, Host, Queue, Wish
from archer.models.prompts import Encoder
from archer.types import Ask, Json, Problem, Rollout, Sampling


class Vllm:
    """``stops`` are the ids that end a response; ``context`` bounds prompt and response together."""

    def __init__(
        self, host: Host, tokenizer: PreTrainedTokenizerBase, prompts: Encoder, stops: Sequence[int],
        context: int | None, description: Mapping[str, Json],
    ) -> None:  # fmt: skip
        self.host, self.tokenizer, self.prompts = host, tokenizer, prompts
        self.stops, self.context, self.description = tuple(stops), context, dict(description)
        self.version = 0

    def load(self, version: int, weights: Weights) -> None:
        """Give the weights to whoever draws; see :class:`archer.engines.base.Engine`."""
        self.host.load(version, weights)
        self.version = version

    def close(self) -> None:
        """End what draws, where we started it."""
        self.host.close()

    def describe(self) -> Mapping[str, Json]:
        """Return the name, the arithmetic of the forward passes, and the digests of the model's files."""
        return self.description

    def prompt(self, problem: Problem) -> Json:
        """Return the prompt's token ids."""
        return list(self.prompts.encode(problem))

    def generate(
        self, asks: Sequence[Ask], sampling: Sampling, finished: Finished = ignore, more: More = no_more
    ) -> list[Rollout]:
        """Return one rollout a sample, in the order asked; see :class:`archer.engines.base.Engine`."""
        wish = Wish(sampling, self.stops, logps=True)
        rollouts = collected(self.version, finished, lambda keep: self._run(asks, wish, keep, more))
        self.host.rest()
        return rollouts

    def answer(self, asks: Sequence[Ask], sampling: Sampling, answered: Answered) -> None:
        """Draw every sample; see :class:`archer.engines.base.Respondent`."""
        self._run(asks, Wish(sampling, self.stops, logps=False), lambda ended: answered(ended.answer()), no_more)

    def _run(self, asks: Sequence[Ask], wish: Wish, each: Callable[[Ended], None], more: More) -> None:
        def rows(asks: Sequence[Ask], first: int) -> list[Row]:
            return rows_of(asks, self.prompts, wish.sampling, self.context, first)

        queue = Queue(asks, rows, more)

        def keep(drawn: Drawn) -> None:
            queue.done += 1
            each(self._ended(queue, drawn))

        if queue.rows:
            self.host.draw(queue, wish, keep)

    def _ended(self, queue: Queue, drawn: Drawn) -> Ended:
        row, tokens = queue.rows[drawn.place], drawn.tokens
        ended = tokens[-1] in self.stops
        text = text_of(self.tokenizer, row.prompt, tokens[:-1] if ended else tokens)
        columns = torch.tensor(tokens), torch.tensor(drawn.logps), torch.tensor([])
        return Ended(row, columns, text, "end" if ended else "length")
