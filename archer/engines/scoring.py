"""Scoring given text: log-likelihoods of continuations, for tasks that compare answers instead of sampling them.

B rows of a batch, T input tokens, K positions whose logits are kept, N tokens of a continuation, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from archer.errors import DataError

Ids = tuple[int, ...]
Pair = tuple[Ids, Ids]  # a context and its continuation, neither of them empty


@dataclass(frozen=True)
class LikelihoodScore:
    """``logp`` of a continuation in nats, and whether greedy decoding would have produced it."""

    logp: float
    greedy: bool


Scored = Callable[[int, LikelihoodScore], None]  # called with a pair's index and score, in any order


@dataclass(frozen=True)
class ScoringRow:
    """One input of the model, the indices of the pairs it scores, and the ``first`` position that needs logits."""

    tokens: Ids
    places: tuple[int, ...]
    first: int


@dataclass(frozen=True)
class LikelihoodScorer:
    """Scores pairs with any Hugging Face causal LM.

    A batch holds at least one row, and else at most ``tokens`` input tokens, padding included, and ``logits`` logit
    values. ``autocast`` is the dtype of the forward passes (None: that of the weights).
    """

    model: PreTrainedModel
    tokens: int = 16384
    logits: int = 2**27
    autocast: torch.dtype | None = None

    @torch.inference_mode()
    def score(self, pairs: Sequence[Pair], scored: Scored = lambda index, score: None) -> list[LikelihoodScore]:
        """Return one score per pair, in order. Raises DataError for an empty context or continuation.

        Pairs with the same input (the one-letter answers of a question) share one row. Rows are padded on the
        right, which a causal model ignores, so a score depends on neither padding nor the rest of the batch.
        """
        scores: dict[int, LikelihoodScore] = {}
        device = self.model.device
        self.model.eval()
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            for batch in self._batches(to_rows(pairs)):
                for index, score in self._forward(batch, pairs):
                    scores[index] = score
                    scored(index, score)
        return [scores[index] for index in range(len(pairs))]

    def _batches(self, rows: Sequence[ScoringRow]) -> Iterator[list[ScoringRow]]:
        """Cut rows into batches, longest first: this pads little, and memory runs out in the first batch or never."""
        batch: list[ScoringRow] = []
        for row in sorted(rows, key=lambda row: (-len(row.tokens), row.tokens)):
            width = len(batch[0].tokens) if batch else len(row.tokens)
            span = width - min([row.first, *(other.first for other in batch)])
            count = len(batch) + 1
            if batch and (count * width > self.tokens or count * span * self.model.config.vocab_size > self.logits):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _forward(self, batch: Sequence[ScoringRow], pairs: Sequence[Pair]) -> Iterator[tuple[int, LikelihoodScore]]:
        first = min(row.first for row in batch)
        device = self.model.device
        token_BT = pad_sequence([torch.tensor(row.tokens) for row in batch], batch_first=True).to(device)
        # The model's own head, which may scale or cap logits, at the needed positions only.
        kept_K = torch.arange(first, token_BT.shape[1], device=device)
        logits_BKV = self.model(input_ids=token_BT, use_cache=False, logits_to_keep=kept_K).logits
        for logits_KV, row in zip(logits_BKV, batch, strict=True):
            for index in row.places:
                continuation = pairs[index][1]
                end = len(row.tokens) - first
                yield index, score_of(logits_KV[end - len(continuation) : end], continuation)


def to_rows(pairs: Sequence[Pair]) -> list[ScoringRow]:
    """Return the distinct inputs: context and continuation without its last token, which is only predicted."""
    places: dict[Ids, list[int]] = {}
    for index, (context, continuation) in enumerate(pairs):
        if not context or not continuation:
            raise DataError(f"pair {index}: nothing to score: {len(context)} and {len(continuation)} tokens")
        places.setdefault((*context, *continuation[:-1]), []).append(index)
    return [
        ScoringRow(tokens, tuple(own), len(tokens) - max(len(pairs[index][1]) for index in own))
        for tokens, own in places.items()
    ]


def score_of(logits_NV: Tensor, continuation: Ids) -> LikelihoodScore:
    """Return the score of a continuation from the logits that predict it, computed in float32."""
    logits_NV = logits_NV.float()
    target_N = torch.tensor(continuation, device=logits_NV.device)
    logp_N = logits_NV.gather(-1, target_N[:, None])[:, 0] - logits_NV.logsumexp(-1)
    return LikelihoodScore(float(logp_N.double().sum()), bool((logits_NV.argmax(-1) == target_N).all()))
