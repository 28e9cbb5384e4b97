"""From responses to the log-probs and entropies of their tokens, and checks that a model supports this.

B responses, T tokens, N response tokens of all, one response after the other, H hidden size, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from archer.errors import ModelError, first_line
from archer.models.heads import log_probs
from archer.trainer.attention import enable
from archer.trainer.batch import TrainSample, pad
from archer.trainer.packing import ForwardInputs, joined, packed

logger = logging.getLogger(__name__)


class ScoringHead(nn.Module):
    """The LM head as its own module, so that sharded weights are gathered for it."""

    def __init__(self, model: PreTrainedModel, temperature: float) -> None:
        super().__init__()
        self.weight = model.get_output_embeddings().weight
        self.temperature = temperature

    def forward(self, hidden_NH: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probs and entropies of the targets, both (N,)."""
        return log_probs(hidden_NH, self.weight, target_N, self.temperature)


class TokenScorer(nn.Module):
    """A causal LM with the fused log-prob head; ``autocast`` is the layers' dtype (None: that of the weights)."""

    def __init__(self, model: PreTrainedModel, temperature: float, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.model, self.head, self.autocast = model, ScoringHead(model, temperature), autocast

    def forward(self, micro: ForwardInputs) -> tuple[Tensor, Tensor]:
        """Return log-probs and entropies of the targets, both (N,)."""
        # Padding follows the tokens, so causal attention never sees it: no mask is needed. Packed rows: pass a dummy
        # 4-D mask so that transformers skips building its own; our attention ignores it.
        options = {"layout": micro.layout, "attention_mask": micro.id_BT.new_empty(1, 1, 1, 1)} if micro.layout else {}
        with torch.autocast(micro.id_BT.device.type, self.autocast, enabled=self.autocast is not None):
            hidden_BTH = self.model.base_model(
                input_ids=micro.id_BT, position_ids=micro.position_BT, use_cache=False, **options
            )[0]
        # The last norm returns float32, in which the head's product would be many times slower on a GPU.
        hidden_NH = hidden_BTH.flatten(0, 1)[micro.place_N].to(self.autocast or hidden_BTH.dtype)
        scores: tuple[Tensor, Tensor] = self.head(hidden_NH, micro.target_N)
        return scores


def inputs(micro: Sequence[TrainSample], sharing: bool) -> ForwardInputs:
    """Return the responses as one packed row with shared prompts, or as one padded row each."""
    if sharing:
        return packed(micro)
    id_BT = pad([joined([sample.prompt, sample.tokens[:-1]]) for sample in micro], torch.device("cpu"))
    width = id_BT.shape[1]
    position_BT = torch.arange(width)[None]
    starts = [row * width + len(sample.prompt) - 1 for row, sample in enumerate(micro)]
    place_N = torch.cat(
        [torch.arange(start, start + len(sample.tokens)) for start, sample in zip(starts, micro, strict=True)]
    )
    return ForwardInputs(id_BT, position_BT, place_N, joined([sample.tokens for sample in micro]))


def silence_dropout(model: PreTrainedModel) -> None:
    """Turn all dropout off: ratios to the rollout policy and bitwise resuming need deterministic passes."""
    for module in model.modules():
        for name in ("p", "attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def shares_prompts(scorer: TokenScorer) -> bool:
    """Enable packed rows; return whether log-probs and gradients are the same as with padded rows.

    If not, as for models with other layers than full attention, log a warning and restore padded rows.
    """
    model = scorer.model
    before = model.config._attn_implementation
    try:
        enable(model)
        wrong = differing(scorer)
    except Exception as error:  # a model's own code, or a kernel, may raise anything
        wrong = first_line(error)
    if wrong:
        logger.warning("%s: trains on padded rows, prompts repeated: %s", model.config.name_or_path, wrong)
        model.set_attn_implementation(before)
    return not wrong


def differing(scorer: TokenScorer) -> str:
    """Compare packed and padded rows of made-up responses; return what differs, "" if nothing does.

    Compares log-probs, and the gradient of the first trained weight other than the embedding.
    """
    training, device = scorer.model.training, scorer.model.device
    ragged = [((5, 6, 7), (8, 5, 7, 6)), ((5, 6, 7), (6,)), ((8,), (7, 6, 5)), ((8,), (5, 5))]
    made = [TrainSample.of(prompt, tokens) for prompt, tokens in ragged]
    embedding = scorer.model.get_input_embeddings().weight
    first = next(weight for weight in scorer.parameters() if weight.requires_grad and weight is not embedding)
    scorer.eval()
    results = []
    for sharing in (False, True):
        logp_N, _ = scorer(inputs(made, sharing).to(device))
        results.append((logp_N.detach(), *torch.autograd.grad(logp_N.mean(), first)))
    scorer.train(training)
    bound = 0.1 if scorer.autocast else 1e-4
    for name, plain, shared in zip(("log-probs", "gradients"), *results, strict=True):
        gap = float((plain - shared).abs().max())
        if not gap <= bound * max(1.0, float(plain.abs().max())):
            return f"{name} of packed rows differ by {gap:.2g}"
    return ""


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Compare the model's own logits with hidden states times the LM head's weight. Raises ModelError."""
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
