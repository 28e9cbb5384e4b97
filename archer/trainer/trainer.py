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
NOTHING = TrainSample(
    (0,), (0,), 0.0, torch.zeros(1), torch.zeros(1)
)  # what a rank without work scores while others work


class Trainer:
    """Trains the backend's model in place, deterministically. All ranks make the same calls with the same groups.

    - ``optimizer_steps``: number planned in all, for the learning rate's schedule
    - ``longest``: most tokens of a response
    - ``version``: training steps done so far
    - ``tally``: counts the work of this rank
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
        """Keep a copy of the current weights as the reference of KL terms."""
        self.backend.keep_reference()

    def add_reference(self, groups: Sequence[Group], algorithm: Algorithm) -> list[Group]:
        """Return the groups with the reference log-probs of every token in its KL mask.

        Call :meth:`keep_reference` first.
        """
        minis = mini_batches(groups, self.section.mini_batch)
        wanted = [mask_T for mini in minis for mask_T in kl_masks(mini, algorithm)]

        def known(sample: TrainSample, mask_T: Tensor, logp_N: Tensor, entropy_N: Tensor) -> TrainSample:
            return replace(
                sample, ref_logp_T=sample.old_logp_T.to(logp_N).masked_scatter(mask_T, logp_N), kl_mask_T=mask_T
            )

        return self._scored(groups, "reference", self.backend.reference, known, wanted)

    def score(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups with the policy's own log-probs and entropies; ``engine_logp_T`` keeps the engine's."""

        def known(sample: TrainSample, wanted_T: Tensor, logp_T: Tensor, entropy_T: Tensor) -> TrainSample:
            engine = sample.old_logp_T if sample.engine_logp_T is None else sample.engine_logp_T
            return replace(sample, old_logp_T=logp_T, entropy_T=entropy_T, engine_logp_T=engine)

        self.backend.model.eval()
        wanted = [torch.ones(len(sample.tokens), dtype=torch.bool) for group in groups for sample in group]
        return self._scored(groups, "score", self.backend.forward, known, wanted)

    def update(self, groups: Sequence[Group], algorithm: Algorithm) -> dict[str, float]:
        """Train on the groups; return metrics averaged over tokens and updates, the same on every rank.

        Raises UserError if training diverged.
        """
        averages = Averages()
        self.backend.model.train(self.section.checkpointing)  # what only training mode switches on
        for epoch in range(self.section.epochs):
            for number, mini in enumerate(mini_batches(groups, self.section.mini_batch)):
                self._step(mini, algorithm, averages, first=epoch == number == 0)
        self.version += 1
        return sum_over_ranks(averages, self.ranks).result()

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight by its Hugging Face name, whole and merged. Every rank iterates to the end.

        Tied weights come once, by their first name. An unsharded tensor is the policy's own, not a copy.
        """
        return whole_weights(self.backend.model, self.backend.full_param)

    def write(self, folder: Path) -> None:
        """Write a Hugging Face model and the optimizer's state into ``folder``; rank 0 alone writes.

        Raises OSError or RuntimeError, on rank 0 alone, after all ranks contributed.
        """
        counts = {"version": self.version, "optimizer_steps": self.optimizer_steps}
        write_policy(folder, self.backend, counts, self.ranks)

    def read(self, folder: Path) -> None:
        """Load what :meth:`write` wrote, with any backend and number of ranks.

        Raises RunFolderError if it does not fit the model, OSError and others if a file is damaged.
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
        """Score the ``wanted`` tokens, each response on one rank; return the groups updated by ``known``."""
        flat = [sample for group in groups for sample in group]
        own: dict[int, Scores] = {}
        with torch.no_grad():
            for rows in self._rounds(flat, [row for row, wanted_T in enumerate(wanted) if wanted_T.any()]):
                parts_N = [wanted[row] for row in rows] or [torch.ones(1, dtype=torch.bool)]
                scores = forward(self._inputs([flat[row] for row in rows], work, torch.cat(parts_N)))
                counts = [int(part_N.sum()) for part_N in parts_N]
                parts = [torch.split(column_N.cpu(), counts) for column_N in scores]
                own.update(zip(rows, zip(*parts, strict=True), strict=bool(rows)))
        scores_by_row: dict[int, Scores] = {}
        for theirs in self.ranks.gather("scores of responses", own):
            scores_by_row.update(theirs)
        nothing = torch.zeros(0), torch.zeros(0)
        scored = iter([known(sample, wanted[row], *scores_by_row.get(row, nothing)) for row, sample in enumerate(flat)])
        return [tuple(next(scored) for _ in group) for group in groups]

    def _rounds(self, responses: Sequence[TrainSample], rows: Sequence[int]) -> list[list[int]]:
        """Return this rank's micro-batches of the ``rows``."""
        sharing, ranks = self.backend.sharing, self.ranks
        micros = rounds(
            [responses[row] for row in rows], self.section.micro_batch_tokens, ranks.rank, ranks.world, sharing
        )
        return [[rows[index] for index in micro] for micro in micros]

    def _inputs(self, micro: Sequence[TrainSample], work: str, wanted_N: Tensor | None = None) -> ForwardInputs:
        """Return the inputs that score all tokens, or the ``wanted_N`` ones, and count their work."""
        forward_inputs = inputs(micro or [NOTHING], self.backend.sharing)
        forward_inputs = forward_inputs if wanted_N is None else forward_inputs.only(wanted_N)
        self.tally[work].add(*forward_inputs.work)
        return forward_inputs

    def _step(self, mini: Sequence[TrainSample], algorithm: Algorithm, averages: Averages, *, first: bool) -> None:
        """Run one optimizer step, micro-batch by micro-batch; loss weights are those of the whole mini-batch.

        ``first``: the weights are still those that sampled, so if the policy did not score the responses again, the
        forward pass measures the mismatch with the engine.
        """
        length_B = torch.tensor([float(len(sample.tokens)) if sample.in_loss else 0.0 for sample in mini])
        weight_B = AGGREGATIONS[algorithm.aggregation](length_B, self.longest)
        used = [sample.entropy_T for sample in mini if sample.in_loss]
        if not used:  # over-long filtering left nothing to train on
            return
        step_entropy_N = torch.cat(used)
        micros = self._rounds(mini, [row for row, sample in enumerate(mini) if has_gradient(sample, algorithm)])
        for index, rows in enumerate(micros):
            last = index == len(micros) - 1
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
        """Update the weights by the summed gradient. Raises UserError if it is not finite."""
        norm = self.backend.step(self.section.lr * lr_factor(self.section, self.optimizer_steps, self.total))
        if not math.isfinite(norm):
            raise UserError(
                f"training diverged: the gradient of optimizer step {self.optimizer_steps} is {norm}; lower "
                "update.lr (the last checkpoint is from before this step)"
            )
        self.optimizer_steps += 1
        if self.ranks.main:  # the same on all ranks, so counted once
            averages.add("gradient_norm", norm)
            averages.counts["loss"] += 1

    def _observe(self, tokens: Tokens, columns: dict[str, Tensor], averages: Averages) -> None:
        """Average the objective's columns over all tokens, and over reasoning and knowledge tokens."""
        gate = replace(tokens, logp_BT=tokens.logp_BT.detach())
        reasoning_BT = above_quantile(gate, CLASS_QUANTILE)
        masks = {"": tokens.mask_BT, "reasoning": reasoning_BT, "knowledge": tokens.mask_BT & ~reasoning_BT}
        columns = {**columns, "entropy": tokens.entropy_BT, "ratio": ratio(gate)}
        if "kl" in columns and tokens.anchored_BT is not None:  # the others have no reference log-probs
            held = {suffix: mask_BT & tokens.anchored_BT for suffix, mask_BT in masks.items()}
            averages.add_columns({"kl": columns.pop("kl")}, held)
        averages.add_columns(columns, masks)


def compare(tokens: Tokens, averages: Averages) -> None:
    """Add the mismatch between the policy's and the engine's log-probs to ``averages``."""
    gap_N = (tokens.logp_BT.detach() - tokens.old_logp_BT)[tokens.mask_BT]
    for name, value in mismatch_metrics(gap_N).items():
        if name == LARGEST:
            averages.top(name, value)
        else:
            averages.add(name, value * len(gap_N), len(gap_N))


def sum_over_ranks(averages: Averages, ranks: Ranks) -> Averages:
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

    ``total`` is the number of optimizer steps that the recipe plans; a group filter may make it smaller.
    """
    if step < update.warmup:
        return (step + 1) / update.warmup
    done = min(1.0, (step - update.warmup) / max(1, total - update.warmup))
    return {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }[update.schedule]
