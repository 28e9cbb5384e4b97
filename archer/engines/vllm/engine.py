"""The vLLM engine: prompts as token ids in, sampled tokens with their log-probs out, the same shape as the native one.

Log-probs are of softmax(logits / temperature), as vLLM samples; entropies it does not tell. Every sample has a seed of
its own. Who draws is a :class:`~archer.engines.vllm.backend.VllmBackend`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from archer.engines.base import MoreRequests, OnCompletion, OnRollout, Weights, ignore, no_more
from archer.engines.decode_buffer import FinishedRow, SampleRow
from archer.engines.requests import collect_rollouts, rows_of, text_of
from archer.engines.vllm.backend import RequestQueue, VllmBackend, VllmOutput, VllmSampling
from archer.models.prompts import PromptEncoder
from archer.types import Json, Problem, Request, Rollout, Sampling


class VllmEngine:
    """``stops`` are the ids that end a response; ``context`` bounds prompt and response together."""

    def __init__(
        self, host: VllmBackend, tokenizer: PreTrainedTokenizerBase, prompts: PromptEncoder, stops: Sequence[int],
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
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_rollout: OnRollout = ignore,
        more: MoreRequests = no_more,
    ) -> list[Rollout]:
        """Return one rollout a sample, in the order asked; see :class:`archer.engines.base.Engine`."""
        wish = VllmSampling(sampling, self.stops, logps=True)
        rollouts = collect_rollouts(self.version, on_rollout, lambda keep: self._run(requests, wish, keep, more))
        self.host.rest()
        return rollouts

    def complete(self, requests: Sequence[Request], sampling: Sampling, on_completion: OnCompletion) -> None:
        """Draw every sample; see :class:`archer.engines.base.Generator`."""
        self._run(
            requests,
            VllmSampling(sampling, self.stops, logps=False),
            lambda ended: on_completion(ended.completion()),
            no_more,
        )

    def _run(
        self, requests: Sequence[Request], wish: VllmSampling, each: Callable[[FinishedRow], None], more: MoreRequests
    ) -> None:
        def rows(requests: Sequence[Request], first: int) -> list[SampleRow]:
            return rows_of(requests, self.prompts, wish.sampling, self.context, first)

        queue = RequestQueue(requests, rows, more)

        def keep(drawn: VllmOutput) -> None:
            queue.done += 1
            each(self._ended(queue, drawn))

        if queue.rows:
            self.host.draw(queue, wish, keep)

    def _ended(self, queue: RequestQueue, drawn: VllmOutput) -> FinishedRow:
        row, tokens = queue.rows[drawn.place], drawn.tokens
        ended = tokens[-1] in self.stops
        text = text_of(self.tokenizer, row.prompt, tokens[:-1] if ended else tokens)
        columns = torch.tensor(tokens), torch.tensor(drawn.logps), torch.tensor([])
        return FinishedRow(row, columns, text, "end" if ended else "length")
