"""The vLLM engine: prompts as token ids in, sampled tokens with their log-probs out.

Log-probs are of softmax(logits / temperature), as vLLM samples; vLLM reports no entropies. Every sample has its own
seed. A :class:`~archer.engines.vllm.backend.VllmBackend` does the sampling.
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
    """An :class:`~archer.engines.base.Engine` over a vLLM backend.

    - ``host``: the backend that samples
    - ``stops``: token ids that end a response
    - ``context``: most tokens of prompt and response; None: unbounded
    - ``description``: the value of :meth:`describe`
    """

    def __init__(
        self, host: VllmBackend, tokenizer: PreTrainedTokenizerBase, prompts: PromptEncoder, stops: Sequence[int],
        context: int | None, description: Mapping[str, Json],
    ) -> None:  # fmt: skip
        self.host, self.tokenizer, self.prompts = host, tokenizer, prompts
        self.stops, self.context, self.description = tuple(stops), context, dict(description)
        self.version = 0

    def load(self, version: int, weights: Weights) -> None:
        """Send the weights to the backend; see :class:`archer.engines.base.Engine`."""
        self.host.load(version, weights)
        self.version = version

    def close(self) -> None:
        """Stop the backend."""
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
        """Return one rollout per sample, in request order; see :class:`archer.engines.base.Engine`."""
        vllm_sampling = VllmSampling(sampling, self.stops, logps=True)
        rollouts = collect_rollouts(
            self.version, on_rollout, lambda keep: self._run(requests, vllm_sampling, keep, more)
        )
        self.host.rest()
        return rollouts

    def complete(self, requests: Sequence[Request], sampling: Sampling, on_completion: OnCompletion) -> None:
        """Sample every response; see :class:`archer.engines.base.Generator`."""
        self._run(
            requests,
            VllmSampling(sampling, self.stops, logps=False),
            lambda ended: on_completion(ended.completion()),
            no_more,
        )

    def _run(
        self,
        requests: Sequence[Request],
        vllm_sampling: VllmSampling,
        each: Callable[[FinishedRow], None],
        more: MoreRequests,
    ) -> None:
        def rows(requests: Sequence[Request], first: int) -> list[SampleRow]:
            return rows_of(requests, self.prompts, vllm_sampling.sampling, self.context, first)

        queue = RequestQueue(requests, rows, more)

        def keep(output: VllmOutput) -> None:
            queue.done += 1
            each(self._ended(queue, output))

        if queue.rows:
            self.host.draw(queue, vllm_sampling, keep)

    def _ended(self, queue: RequestQueue, output: VllmOutput) -> FinishedRow:
        row, tokens = queue.rows[output.place], output.tokens
        stopped = tokens[-1] in self.stops
        text = text_of(self.tokenizer, row.prompt, tokens[:-1] if stopped else tokens)
        columns = torch.tensor(tokens), torch.tensor(output.logps), torch.tensor([])
        return FinishedRow(row, columns, text, "end" if stopped else "length")
