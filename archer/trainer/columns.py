"""From responses and their scores to the columns that an objective reads; KL masks.

B responses, T tokens, N tokens of several responses, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from archer.algorithms import Algorithm
from archer.algorithms.base import applied, extra_parameters, skipped
from archer.algorithms.needs import GIVEN
from archer.algorithms.tokens import Tokens
from archer.errors import UserError
from archer.trainer.backend import Scores
from archer.trainer.batch import TrainSample, all_tokens, pad

OTHERWISE = {"engine_logp": "old_logp"}  # columns that are another one unless they were kept apart
ATTRIBUTES = frozenset({"entropy", "ref_logp", "step_entropy", "policy_entropy", "entropy_gradient"})
OVER_STEP = "over_step: "  # before the name of a column that the objective made of the whole step


def has_gradient(sample: TrainSample, algorithm: Algorithm) -> bool:
    """Whether a response can change the weights: it is in the loss, and the objective does not skip it."""
    return sample.in_loss and not skipped(algorithm.objective, sample.columns)


def loss_columns(
    micro: Sequence[TrainSample], scores: Scores, algorithm: Algorithm, step_entropy_N: Tensor | None = None
) -> Tokens:
    """Return the objective's columns of the responses, given the ``scores`` of the current policy."""
    logp_N, entropy_N = scores
    needs, device = algorithm.objective.needs, logp_N.device
    lengths = [len(sample.tokens) for sample in micro]

    def padded(name: str) -> Tensor:
        return pad([column(sample, name) for sample in micro], device)

    columns = {name: padded(name) for name in sorted(needs - ATTRIBUTES - GIVEN)}
    columns |= {name.removeprefix(OVER_STEP): padded(name) for name in micro[0].columns if name.startswith(OVER_STEP)}
    entropy_BT = padded("entropy") if "entropy" in needs else None
    if needs & {"policy_entropy", "entropy_gradient"}:
        kept_N = entropy_N if "entropy_gradient" in needs else entropy_N.detach()
        columns["policy_entropy"] = pad(torch.split(kept_N, lengths), device)
        entropy_BT = columns["policy_entropy"].detach() if entropy_BT is None else entropy_BT
    known, advantage_BT = micro[0].columns, padded("advantage")
    return Tokens(
        logp_BT=pad(torch.split(logp_N, lengths), device),
        old_logp_BT=padded("old_logp"),
        entropy_BT=entropy_BT,
        advantage_BT=advantage_BT * padded("correction") if "correction" in known else advantage_BT,
        mask_BT=loss_mask(micro, device),
        ref_logp_BT=padded("ref_logp") if "ref_logp" in known else None,
        anchored_BT=padded("kl_mask") if "kl_mask" in known else None,
        step_entropy_N=step_entropy_N,
        columns=columns,
    )


def loss_mask(micro: Sequence[TrainSample], device: torch.device) -> Tensor:
    """Return which tokens are in the loss, (B, T): not padding, nor those of excluded responses."""
    length_B = torch.tensor([len(sample.tokens) * sample.in_loss for sample in micro], device=device)
    return torch.arange(max(len(sample.tokens) for sample in micro), device=device) < length_B[:, None]


def column(sample: TrainSample, name: str) -> Tensor:
    """Return a column of a sample, (T,), or the one that stands for it."""
    return sample[name] if name in sample.columns else sample[OTHERWISE.get(name, name)]


def kl_masks(mini: Sequence[TrainSample], algorithm: Algorithm) -> list[Tensor]:
    """Return the KL mask of each response, (T,) bool: the tokens of the loss that need reference log-probs.

    Without ``reads_reference`` of the objective, or without a response in the loss, all of the loss.
    """
    everything = [all_tokens(sample) & sample.in_loss for sample in mini]
    rule: Callable[[Tokens], Tensor] | None = getattr(algorithm.objective, "reads_reference", None)
    if rule is None or not any(sample.in_loss for sample in mini):
        return everything
    old_N = torch.cat([sample["old_logp"] for sample in mini])
    tokens = loss_columns(mini, (old_N, torch.zeros_like(old_N)), algorithm, step_entropy(mini, algorithm))
    return [held_T[: len(in_T)] & in_T for held_T, in_T in zip(rule(tokens), everything, strict=True)]


def step_entropy(mini: Sequence[TrainSample], algorithm: Algorithm) -> Tensor | None:
    """Return the entropies at rollout of all tokens in the loss, (N,), if the objective asks for them."""
    if "step_entropy" not in algorithm.objective.needs:
        return None
    return torch.cat([sample["entropy"] for sample in mini if sample.in_loss])


def weights_of(mini: Sequence[TrainSample], algorithm: Algorithm, longest: int) -> Tensor:
    """Return the loss weight of each response's tokens, (B,), by the algorithm's aggregation. Raises UserError."""
    length_B = torch.tensor([float(len(sample.tokens)) if sample.in_loss else 0.0 for sample in mini])
    function = algorithm.aggregation_function
    more: dict[str, Tensor] = {}
    for name in extra_parameters(function, 2):
        if name == "group_B":
            more[name] = torch.stack([sample["group"][0] for sample in mini])
        elif name == "signal_B":
            more[name] = torch.tensor([bool(sample["advantage"].any()) for sample in mini])
    weight_B = applied(f"aggregation {algorithm.aggregation!r}", function, length_B, longest, **more)
    if weight_B.shape != length_B.shape:
        raise UserError(
            f"aggregation {algorithm.aggregation!r}: returned shape {tuple(weight_B.shape)} for {len(mini)} responses; "
            "return one weight for each"
        )
    return weight_B


def over_step(mini: Sequence[TrainSample], made: Mapping[str, Tensor], shape: torch.Size) -> tuple[TrainSample, ...]:
    """Return the responses with their rows of the columns that the objective ``made`` of the whole step."""
    rows = {name: made_BT.cpu().expand(shape) for name, made_BT in made.items()}
    return tuple(
        sample.having(**{f"{OVER_STEP}{name}": row_BT[row, : len(sample.tokens)] for name, row_BT in rows.items()})
        for row, sample in enumerate(mini)
    )
