"""From responses to the log-probs and entropies of their tokens: the module that a step runs.

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
from archer.trainer.packing import ForwardInputs, packed

logger = logging.getLogger(__name__)


class ScoringHead(nn.Module):
    """The output embedding's weight as a module of its own, so that it is gathered where weights are sharded."""

    def __init__(self, model: PreTrainedModel, temperature: float) -> None:
        super().__init__()
        self.weight = model.get_output_embeddings().weight
        self.temperature = temperature

    def forward(self, hidden_NH: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probs and entropies of the targets, both (N,)."""
        return log_probs(hidden_NH, self.weight, target_N, self.temperature)


class TokenScorer(nn.Module):
    """A causal LM under the fused head; ``autocast`` is the dtype of the layers' arithmetic (none: the weights')."""

    def __init__(self, model: PreTrainedModel, temperature: float, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.model, self.head, self.autocast = model, ScoringHead(model, temperature), autocast

    def forward(self, one: ForwardInputs) -> tuple[Tensor, Tensor]:
        """Return log-probs and entropies of the targets, both (N,)."""
        # Padding lies behind the tokens, where causal attention never looks: no mask is needed. Where there is a
        # layout the model would make one of its own; one of four axes it takes for made, and nobody reads it.
        options = {"layout": one.layout, "attention_mask": one.id_BT.new_empty(1, 1, 1, 1)} if one.layout else {}
        with torch.autocast(one.id_BT.device.type, self.autocast, enabled=self.autocast is not None):
            hidden_BTH = self.model.base_model(
                input_ids=one.id_BT, position_ids=one.position_BT, use_cache=False, **options
            )[0]
        # The last norm hands on the weights' float32, in which a GPU would multiply many times slower.
        hidden_NH = hidden_BTH.flatten(0, 1)[one.place_N].to(self.autocast or hidden_BTH.dtype)
        scores: tuple[Tensor, Tensor] = self.head(hidden_NH, one.target_N)
        return scores


def inputs(micro: Sequence[TrainSample], sharing: bool) -> ForwardInputs:
    """Return the responses as one packed row, prompts shared, or as padded rows of their own."""
    if sharing:
        return packed(micro)
    id_BT = pad([torch.tensor(one.prompt + one.tokens[:-1]) for one in micro], torch.device("cpu"))
    width = id_BT.shape[1]
    position_BT = torch.arange(width)[None]
    starts = [row * width + len(one.prompt) - 1 for row, one in enumerate(micro)]
    place_N = torch.cat(
        [torch.arange(start, start + len(one.tokens)) for start, one in zip(starts, micro, strict=True)]
    )
    return ForwardInputs(id_BT, position_BT, place_N, torch.tensor([token for one in micro for token in one.tokens]))


def silence_dropout(model: PreTrainedModel) -> None:
    """Turn dropout off everywhere: the ratio to the rollout's policy, and resuming bitwise, need it so."""
    for module in model.modules():
        for name in ("p", "attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def shares_prompts(scorer: TokenScorer) -> bool:
    """Make the model take packed rows and say whether it does: its log-probs must be those of padded ones.

    A model that mixes tokens by other means than full attention does not; it trains on padded rows.
    """
    model = scorer.model
    before = model.config._attn_implementation
    try:
        enable(model)
        wrong = differing(scorer)
    except Exception as error:  # whatever a model of the hub's own code, or a kernel, may raise
        wrong = first_line(error)
    if wrong:
        logger.warning("%s: trains on padded rows, prompts repeated: %s", model.config.name_or_path, wrong)
        model.set_attn_implementation(before)
    return not wrong


def differing(scorer: TokenScorer) -> str:
    """Compare packed and padded rows of made-up responses; return what is wrong, nothing where all is well.

    Both ways: log-probs, and the gradient of the first weight that is trained behind the embedding.
    """
    training, device = scorer.model.training, scorer.model.device
    ragged = [((5, 6, 7), (8, 5, 7, 6)), ((5, 6, 7), (6,)), ((8,), (7, 6, 5)), ((8,), (5, 5))]
    made = [TrainSample(prompt, tokens, 0.0, torch.zeros(0), torch.zeros(0)) for prompt, tokens in ragged]
    embedding = scorer.model.get_input_embeddings().weight
    first = next(one for one in scorer.parameters() if one.requires_grad and one is not embedding)
    scorer.eval()
    found = []
    for sharing in (False, True):
        logp_N, _ = scorer(inputs(made, sharing).to(device))
        found.append((logp_N.detach(), *torch.autograd.grad(logp_N.mean(), first)))
    scorer.train(training)
    bound = 0.1 if scorer.autocast else 1e-4
    for name, plain, shared in zip(("log-probs", "gradients"), *found, strict=True):
        gap = float((plain - shared).abs().max())
        if not gap <= bound * max(1.0, float(plain.abs().max())):
            return f"{name} of packed rows differ by {gap:.2g}"
    return ""


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
