"""The trainer: one update procedure over any backend, on one rank or many.

B responses, T tokens, N response tokens of several responses, one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from archer.algorithms import Algorithm
from archer.algorithms.aggregation import AGGREGATIONS
from archer.algorithms.base import above_quantile, ratio
from archer.algorithms.tokens import Tokens
from archer.distributed import Ranks
from archer.errors import UserError
from archer.recipe.sections import UpdateSection
from archer.system import WorkCounter
from archer.trainer.backend import Scores, TrainBackend
from archer.trainer.balance import rounds
from archer.trainer.batch import Group, TrainSample, mini_batches
from archer.trainer.columns import has_gradient, kl_masks, loss_columns
from archer.trainer.metrics import Averages
from archer.trainer.mismatch import LARGEST, mismatch_metrics
from archer.trainer.packing import ForwardInputs
from archer.trainer.scoring import inputs
from archer.trainer.state import read_policy, whole_weights, write_policy

CLASS_QUANTILE = 0.8  # metrics call a token "reasoning" above this quantile of its response, as Archer does
NOTHING = TrainSample((0,), (0,), 0.0, torch.zeros(1), torch.zeros(1))  # what a rank scores where only others have work


class Trainer:
    """Trains the backend's model in place. With several ranks every call is one of all ranks, with the same groups.

    ``optimizer_steps`` is the number planned, which the learning rate's schedule needs; ``longest`` the most tokens a
    response may have. ``version`` counts the training steps behind the weights, ``tally`` the work of this rank. There
    is no randomness, so no hidden state.
    """

    def __init__(
        self, backend: TrainBackend, update: UpdateSection, optimizer_steps: int, longest: int, ranks: Ranks
    ) -> None:
        self.backend, self.section, self.total, self.longest, self.ranks = (
            backend, update, optimizer_steps, longest, ranks,
        )  # fmt: skip
        self.version = 0
        self.optimizer_steps = 0
        self.tally = WorkCounter()

    def keep_reference(self) -> None:
        """Keep the weights as they are now: the reference of KL terms."""
        self.backend.keep_reference()

    def add_reference(self, groups: Sequence[Group], algorithm: Algorithm) -> list[Group]:
        """Return the groups with the reference's log-probs of every token with a KL weight.

        Needs :meth:`keep_reference`.
        """
        minis = mini_batches(groups, self.section.mini_batch)
        wanted = [held_T for mini in minis for held_T in kl_masks(mini, algorithm)]

        def known(one: TrainSample, held_T: Tensor, logp_N: Tensor, entropy_N: Tensor) -> TrainSample:
            return replace(one, ref_logp_T=one.old_logp_T.to(logp_N).masked_scatter(held_T, logp_N), kl_mask_T=held_T)

        return self._scored(groups, "reference", self.backend.reference, known, wanted)

    def score(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups with log-probs and entropies by the policy's own pass; the engine's log-probs are kept."""

        def known(one: TrainSample, wanted_T: Tensor, logp_T: Tensor, entropy_T: Tensor) -> TrainSample:
            engine = one.old_logp_T if one.engine_logp_T is None else one.engine_logp_T
            return replace(one, old_logp_T=logp_T, entropy_T=entropy_T, engine_logp_T=engine)

        self.backend.model.eval()
        wanted = [torch.ones(len(one.tokens), dtype=torch.bool) for group in groups for one in group]
        return self._scored(groups, "score", self.backend.forward, known, wanted)

    def update(self, groups: Sequence[Group], algorithm: Algorithm) -> dict[str, float]:
        """Train on the groups; return metrics averaged over tokens and updates, the same on every rank.

        Raises UserError when training diverged.
        """
        averages = Averages()
        self.backend.model.train(self.section.checkpointing)  # what only training mode switches on
        for epoch in range(self.section.epochs):
            for number, mini in enumerate(mini_batches(groups, self.section.mini_batch)):
                self._step(mini, algorithm, averages, first=epoch == number == 0)
        self.version += 1
        return summed(averages, self.ranks).result()

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight by its Hugging Face name, whole and merged. Every rank iterates to the end.

        Tied weights come once, by the first of their names. A tensor is the policy's own where it is whole already.
        """
        return whole_weights(self.backend.model, self.backend.full_param)

    def write(self, folder: Path) -> None:
        """Write a Hugging Face model and the optimizer's state into ``folder``; rank 0 alone writes.

        Raises OSError or RuntimeError, on rank 0 alone, after all ranks contributed.
        """
        counts = {"version": self.version, "optimizer_steps": self.optimizer_steps}
        write_policy(folder, self.backend, counts, self.ranks)

    def read(self, folder: Path) -> None:
        """Take back what :meth:`write` wrote, by whatever backend and number of ranks.

        Raises RunFolderError when it does not fit the model, OSError and others when a file is damaged.
        """
        counts = read_policy(folder, self.backend)
        self.version, self.optimizer_steps = counts["version"], counts["optimizer_steps"]

    def _scored(
        self,
        groups: Sequence[Group],
        work: str,
        forward: Callable[[ForwardInputs], Scores],
        known: Callable[[TrainSample, Tensor, Tensor, Tensor], TrainSample],
        wanted: Sequence[Tensor],
    ) -> list[Group]:
        """Score the ``wanted`` tokens, each response's on one rank, and put what comes of it in by ``known``."""
        flat = [one for group in groups for one in group]
        own: dict[int, Scores] = {}
        with torch.no_grad():
            for rows in self._rounds(flat, [row for row, wanted_T in enumerate(wanted) if wanted_T.any()]):
                parts_N = [wanted[row] for row in rows] or [torch.ones(1, dtype=torch.bool)]
                scores = forward(self._inputs([flat[row] for row in rows], work, torch.cat(parts_N)))
                counts = [int(part_N.sum()) for part_N in parts_N]
                parts = [torch.split(column_N.cpu(), counts) for column_N in scores]
                own.update(zip(rows, zip(*parts, strict=True), strict=bool(rows)))
        found: dict[int, Scores] = {}
        for theirs in self.ranks.gather("scores of responses", own):
            found.update(theirs)
        nothing = torch.zeros(0), torch.zeros(0)
        place = iter([known(one, wanted[row], *found.get(row, nothing)) for row, one in enumerate(flat)])
        return [tuple(next(place) for _ in group) for group in groups]

    def _rounds(self, responses: Sequence[TrainSample], rows: Sequence[int]) -> list[list[int]]:
        """Return this rank's micro-batches of the ``rows``."""
        sharing, ranks = self.backend.sharing, self.ranks
        cut = rounds(
            [responses[row] for row in rows], self.section.micro_batch_tokens, ranks.rank, ranks.world, sharing
        )
        return [[rows[place] for place in micro] for micro in cut]

    def _inputs(self, micro: Sequence[TrainSample], work: str, wanted_N: Tensor | None = None) -> ForwardInputs:
        """Return what a forward pass reads to score all tokens, or the ``wanted_N`` ones, and count it."""
        made = inputs(micro or [NOTHING], self.backend.sharing)
        made = made if wanted_N is None else made.only(wanted_N)
        self.tally[work].add(*made.work)
        return made

    def _step(self, mini: Sequence[TrainSample], algorithm: Algorithm, averages: Averages, *, first: bool) -> None:
        """One optimizer step over a mini-batch, micro-batch by micro-batch; weights are those of the whole.

        The ``first`` of a training step has the weights that sampled: it tells, at no cost, how far an engine that
        was not scored again is from the policy.
        """
        length_B = torch.tensor([float(len(one.tokens)) if one.in_loss else 0.0 for one in mini])
        weight_B = AGGREGATIONS[algorithm.aggregation](length_B, self.longest)
        used = [one.entropy_T for one in mini if one.in_loss]
        if not used:  # over-long filtering left nothing to train on
            return
        step_entropy_N = torch.cat(used)
        micros = self._rounds(mini, [row for row, one in enumerate(mini) if has_gradient(one, algorithm)])
        for place, rows in enumerate(micros):
            last = place == len(micros) - 1
            micro = [mini[row] for row in rows]
            scores = self.backend.forward(self._inputs(micro, "update"))
            if not rows:
                self.backend.backward(0.0 * scores[0].sum(), last)
                continue
            tokens = loss_columns(micro, scores, algorithm, step_entropy_N)
            loss_BT, columns = algorithm.objective(tokens)
            loss = (loss_BT * tokens.mask_BT * weight_B[rows, None].to(loss_BT)).sum()
            self.backend.backward(loss, last)
            averages.add("loss", float(loss.detach()), 0.0)
            self._observe(tokens, columns, averages)
            if first and mini[0].engine_logp_T is None:
                compare(tokens, averages)
        self._finish(averages)

    def _finish(self, averages: Averages) -> None:
        """Move the weights by the gradient gathered. Raises UserError where it is not finite."""
        norm = self.backend.step(self.section.lr * lr_factor(self.section, self.optimizer_steps, self.total))
        if not math.isfinite(norm):
            raise UserError(
                f"training diverged: the gradient of optimizer step {self.optimizer_steps} is {norm}; lower "
                "update.lr (the last checkpoint is from before this step)"
            )
        self.optimizer_steps += 1
        if self.ranks.main:  # what is one number for all ranks is counted once
            averages.add("gradient_norm", norm)
            averages.counts["loss"] += 1

    def _observe(self, tokens: Tokens, columns: dict[str, Tensor], averages: Averages) -> None:
        """Average the objective's columns over all tokens, and over reasoning and knowledge tokens."""
        gate = replace(tokens, logp_BT=tokens.logp_BT.detach())
        reasoning_BT = above_quantile(gate, CLASS_QUANTILE)
        masks = {"": tokens.mask_BT, "reasoning": reasoning_BT, "knowledge": tokens.mask_BT & ~reasoning_BT}
        columns = {**columns, "entropy": tokens.entropy_BT, "ratio": ratio(gate)}
        if "kl" in columns and tokens.anchored_BT is not None:  # nobody asked the reference about the others
            held = {suffix: mask_BT & tokens.anchored_BT for suffix, mask_BT in masks.items()}
            averages.add_columns({"kl": columns.pop("kl")}, held)
        averages.add_columns(columns, masks)


def compare(tokens: Tokens, averages: Averages) -> None:
    """Add how far the policy's log-probs are from those that the engine reported."""
    gap_N = (tokens.logp_BT.detach() - tokens.old_logp_BT)[tokens.mask_BT]
    for name, value in mismatch_metrics(gap_N).items():
        if name == LARGEST:
            averages.top(name, value)
        else:
            averages.add(name, value * len(gap_N), len(gap_N))


def summed(averages: Averages, ranks: Ranks) -> Averages:
    """Return the sums and counts of all ranks together, the same on every rank."""
    if ranks.world == 1:
        return averages
    total = Averages()
    for sums, counts, tops in ranks.gather("metrics", (dict(averages.sums), dict(averages.counts), averages.tops)):
        for name, value in sums.items():
            total.add(name, value, counts[name])
        for name, value in tops.items():
            total.top(name, value)
    return total


def lr_factor(update: UpdateSection, step: int, total: int) -> float:
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
