"""From responses to the log-probs and entropies of their tokens: the module that a step runs.

B responses, T tokens, N response tokens of all, one response after the other, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from archer.batch import Response, pad
from archer.errors import ModelError
from archer.heads import log_probs

Spans = list[tuple[int, int, int]]  # row, and the range of places whose next token is the response's


class Head(nn.Module):
    """The output embedding's weight as a module of its own, so that it is gathered where weights are sharded."""

    def __init__(self, model: PreTrainedModel, temperature: float) -> None:
        super().__init__()
        self.weight = model.get_output_embeddings().weight
        self.temperature = temperature

    def forward(self, hidden_NH: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probs and entropies of the targets, both (N,)."""
        return log_probs(hidden_NH, self.weight, target_N, self.temperature)


class Scorer(nn.Module):
    """A causal LM under the chunked head; ``autocast`` is the dtype of the layers' arithmetic (none: the weights')."""

    def __init__(self, model: PreTrainedModel, temperature: float, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.model, self.head, self.autocast = model, Head(model, temperature), autocast

    def forward(self, id_BT: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
        """Return log-probs and entropies of all response tokens, both (N,)."""
        with torch.autocast(id_BT.device.type, self.autocast, enabled=self.autocast is not None):
            # Padding lies behind the tokens, where causal attention never looks: no mask is needed.
            hidden_BTH = self.model.base_model(input_ids=id_BT, use_cache=False)[0]
        hidden_NH = torch.cat([hidden_BTH[row, start:stop] for row, start, stop in spans])
        target_N = torch.cat([id_BT[row, start + 1 : stop + 1] for row, start, stop in spans])
        scores: tuple[Tensor, Tensor] = self.head(hidden_NH, target_N)
        return scores


def inputs(micro: Sequence[Response], device: torch.device) -> tuple[Tensor, Spans]:
    """Return what :class:`Scorer` takes: padded ids (B, T) and the spans of the responses."""
    id_BT = pad([torch.tensor(one.prompt + one.tokens) for one in micro], device)
    return id_BT, [(row, len(one.prompt) - 1, len(one) - 1) for row, one in enumerate(micro)]


def silence_dropout(model: PreTrainedModel) -> None:
    """Turn dropout off everywhere: the ratio to the rollout's policy, and resuming bitwise, need it so."""
    for module in model.modules():
        for name in ("p", "attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Compare the model's own logits with hidden states times the output weight. Raises ModelError."""
    head = model.get_output_embeddings()
    ids = torch.arange(4, device=model.device)[None] + 5
    plain = getattr(head, "weight", None) is not None and getattr(head, "bias", None) is None
    if plain:
        expected = model(input_ids=ids, use_cache=False).logits.float()
        hidden = model.base_model(input_ids=ids, use_cache=False)[0]
        plain = torch.allclose((hidden @ head.weight.T).float(), expected, atol=1e-3, rtol=1e-3)
    if not plain:
        raise ModelError(
            f"{model.config.name_or_path}: its logits are not a plain linear map of the last hidden states "
            "(bias, scaling or soft-capping), which the log-prob head does not cover"
        )
