"""The policy in one process: AdamW over any Hugging Face causal LM, on the CPU or one GPU."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from archer.averaging import AVERAGINGS
from archer.batch import Group, Response, Tokens, micro_batches, mini_batches, pad, with_reference
from archer.errors import ModelError, UserError
from archer.heads import log_probs
from archer.metrics import Averages
from archer.objectives import Algorithm
from archer.objectives.base import above_quantile, ratio
from archer.recipe import Update

CLASS_QUANTILE = 0.8  # metrics call a token "reasoning" above this quantile of its response, as Archer does


class TorchPolicy:
    """Trains ``model`` in place. ``version`` counts training steps; no randomness, so no hidden state.

    Raises :class:`~archer.errors.ModelError` when the model's logits are not a plain linear map of its last
    hidden states (the head computes log-probs from those).
    """

    def __init__(self, model: PreTrainedModel, update: Update, steps: int, temperature: float, longest: int) -> None:
        self.model, self.recipe, self.total = model, update, steps
        self.temperature, self.longest = temperature, longest
        self.version = 0
        self.optimizer_steps = 0
        self.reference: PreTrainedModel | None = None
        self.autocast = torch.bfloat16 if update.bf16 else None
        check_head(model)
        silence_dropout(model)
        if update.checkpointing:
            model.gradient_checkpointing_enable()
        self.optimizer = torch.optim.AdamW(
            model.parameters(), update.lr, betas=update.betas, weight_decay=update.weight_decay, fused=True
        )

    def keep_reference(self) -> None:
        """Keep a frozen copy of the weights as they are now: the reference of KL terms."""
        self.reference = copy.deepcopy(self.model).eval().requires_grad_(False)

    def add_reference(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups with the reference policy's log-probs. Needs :meth:`keep_reference`."""
        if self.reference is None:
            raise ValueError("no reference policy was kept")
        flat = [one for group in groups for one in group]
        scored: list[Response] = list(flat)
        with torch.no_grad():
            for rows in micro_batches([len(one) for one in flat], self.recipe.tokens):
                logp_N, _ = self._forward(self.reference, [flat[row] for row in rows])
                parts = torch.split(logp_N.cpu(), [len(flat[row].tokens) for row in rows])
                for row, logp_T in zip(rows, parts, strict=True):
                    scored[row] = with_reference(flat[row], logp_T)
        place = iter(scored)
        return [tuple(next(place) for _ in group) for group in groups]

    def update(self, groups: Sequence[Group], algorithm: Algorithm) -> dict[str, float]:
        """Run every epoch's mini-batches; return metrics averaged over their tokens and updates."""
        averages = Averages()
        self.model.train(self.recipe.checkpointing)  # what only training mode switches on
        for _ in range(self.recipe.epochs):
            for mini in mini_batches(groups, self.recipe.mini_batch):
                self._step(mini, algorithm, averages)
        self.version += 1
        return averages.result()

    def _step(self, mini: Sequence[Response], algorithm: Algorithm, averages: Averages) -> None:
        """One optimizer step over a mini-batch, micro-batch by micro-batch."""
        length_B = torch.tensor([float(len(one.tokens)) if one.used else 0.0 for one in mini])
        weight_B = AVERAGINGS[algorithm.averaging](length_B, self.longest)
        used = [one.entropy_T for one in mini if one.used]
        if not used:  # over-long filtering left nothing to train on
            return
        step_entropy_N = torch.cat(used)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * lr_factor(self.recipe, self.optimizer_steps, self.total)
        for rows in micro_batches([len(one) for one in mini], self.recipe.tokens):
            micro = [mini[row] for row in rows]
            tokens = self._tokens(micro, algorithm, step_entropy_N)
            loss_BT, columns = algorithm.objective(tokens)
            loss = (loss_BT * tokens.mask_BT * weight_B[rows, None].to(loss_BT)).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            averages.add("loss", float(loss.detach()), 0.0)
            self._observe(tokens, columns, averages)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        if not torch.isfinite(norm):
            raise UserError(
                f"training diverged: the gradient of optimizer step {self.optimizer_steps} is {float(norm)}; lower "
                "update.lr (the last checkpoint is from before this step)"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer_steps += 1
        averages.add("gradient_norm", float(norm))
        averages.counts["loss"] += 1

    def _tokens(self, micro: Sequence[Response], algorithm: Algorithm, step_entropy_N: Tensor) -> Tokens:
        logp_N, entropy_N = self._forward(self.model, micro)
        lengths = [len(one.tokens) for one in micro]
        device = logp_N.device
        current_BT = pad(torch.split(entropy_N.detach(), lengths), device)
        rollout_BT = pad([one.entropy_T for one in micro], device)
        mask_BT = pad([torch.full((len(one.tokens),), one.used) for one in micro], device)
        references = [one.ref_logp_T for one in micro if one.ref_logp_T is not None]
        return Tokens(
            logp_BT=pad(torch.split(logp_N, lengths), device),
            old_logp_BT=pad([one.old_logp_T for one in micro], device),
            entropy_BT=current_BT if algorithm.objective.entropy == "policy" else rollout_BT,
            advantage_BT=torch.tensor([one.advantage for one in micro], device=device)[:, None].expand_as(mask_BT),
            mask_BT=mask_BT,
            ref_logp_BT=pad(references, device) if references else None,
            step_entropy_N=step_entropy_N,
        )

    def _observe(self, tokens: Tokens, columns: dict[str, Tensor], averages: Averages) -> None:
        """Average the objective's columns over all tokens, and over reasoning and knowledge tokens."""
        gate = replace(tokens, logp_BT=tokens.logp_BT.detach())
        reasoning_BT = above_quantile(gate, CLASS_QUANTILE)
        masks = {"": tokens.mask_BT, "reasoning": reasoning_BT, "knowledge": tokens.mask_BT & ~reasoning_BT}
        columns = {**columns, "entropy": tokens.entropy_BT, "ratio": ratio(gate)}
        averages.add_columns(columns, masks)

    def _forward(self, model: PreTrainedModel, micro: Sequence[Response]) -> tuple[Tensor, Tensor]:
        """Return log-probs and entropies of all response tokens, one after the other, both (N,)."""
        device = model.device
        id_BT = pad([torch.tensor(one.prompt + one.tokens) for one in micro], device)
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            # Padding lies behind the tokens, where causal attention never looks: no mask is needed.
            hidden_BTH = model.base_model(input_ids=id_BT, use_cache=False)[0]
        spans = [(row, len(one.prompt) - 1, len(one) - 1) for row, one in enumerate(micro)]
        hidden_NH = torch.cat([hidden_BTH[row, start:stop] for row, start, stop in spans])
        target_N = torch.cat([id_BT[row, start + 1 : stop + 1] for row, start, stop in spans])
        return log_probs(hidden_NH, model.get_output_embeddings().weight, target_N, self.temperature)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "version": self.version,
            "optimizer_steps": self.optimizer_steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` returned; the weights are loaded with the model."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.version, self.optimizer_steps = state["version"], state["optimizer_steps"]


def lr_factor(update: Update, step: int, total: int) -> float:
    """Return the learning rate's factor at an optimizer step: linear warm-up, then the schedule.

    ``total`` is the number of optimizer steps the recipe plans (with refill or drop it may come out smaller).
    """
    if step < update.warmup:
        return (step + 1) / update.warmup
    done = min(1.0, (step - update.warmup) / max(1, total - update.warmup))
    return {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }[update.schedule]


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
