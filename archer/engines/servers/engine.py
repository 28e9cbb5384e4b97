"""An engine that another process samples for: prompts as token ids in, sampled tokens with their log-probs out.

Log-probs are of softmax(logits / temperature), and there are no entropies. Every sample has its own seed. An
:class:`~archer.engines.servers.call.EngineBackend` does the sampling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from archer.engines.base import Weights
from archer.engines.queue import RequestQueue
from archer.engines.requests import TokenCoder
from archer.engines.servers.call import EngineBackend, EngineCall
from archer.models.prompts import PromptEncoder
from archer.types import Json, Problem, Rollout, Sampling


class BackendEngine:
    """An :class:`~archer.engines.base.Engine` over a backend.

    - ``host``: the backend that samples
    - ``stops``: token ids that end a response
    - ``context``: most tokens of prompt and response; None: unbounded
    - ``description``: the value of :meth:`describe`
    """

    def __init__(
        self, host: EngineBackend, tokenizer: PreTrainedTokenizerBase, prompts: PromptEncoder, stops: Sequence[int],
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

    def generate(self, queue: RequestQueue, sampling: Sampling) -> Iterator[Rollout]:
        """Yield a rollout for every request of the queue; see :class:`archer.engines.base.Generator`."""
        if queue.waiting:
            coder = TokenCoder(
                self.tokenizer, self.prompts, self.stops, self.version, sampling.max_tokens, self.context, queue.logps
            )
            coder.width(queue.waiting)  # a prompt that is too long is refused before anything is sampled
            yield from self.host.draw(EngineCall(queue, coder, sampling))
        if queue.logps:  # training goes on with an update, an evaluation with the next benchmark
            self.host.rest()
