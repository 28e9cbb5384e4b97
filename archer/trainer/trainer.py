"""The trainer: one update procedure over any backend, on one rank or many.

B responses, T tokens, N response tokens of several responses, one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from archer.algorithms import Algorithm
from archer.algorithms.tokens import Tokens
from archer.distributed import Ranks
from archer.errors import UserError
from archer.recipe.sections import UpdateSection
from archer.system import WorkCounter
from archer.trainer.backend import Scores, TrainBackend
from archer.trainer.balance import rounds
from archer.trainer.batch import Group, TrainSample, all_tokens, mini_batches, numbered
from archer.trainer.columns import column, has_gradient, kl_masks, loss_columns, over_step, step_entropy, weights_of
from archer.trainer.metrics import Averages
from archer.trainer.observing import compare, observe
from archer.trainer.packing import ForwardInputs
from archer.trainer.scoring import inputs
from archer.trainer.state import read_policy, whole_weights, write_policy

NOTHING = TrainSample.of((0,), (0,))  # what a rank without work scores while others work


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
            return sample.having(ref_logp=sample["old_logp"].to(logp_N).masked_scatter(mask_T, logp_N), kl_mask=mask_T)

        return self._scored(groups, "reference", self.backend.reference, known, wanted)

    def score(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups with the policy's own log-probs and entropies; ``engine_logp`` keeps the engine's."""

        def known(sample: TrainSample, wanted_T: Tensor, logp_T: Tensor, entropy_T: Tensor) -> TrainSample:
            engine_logp_T = column(sample, "engine_logp")
            return sample.having(old_logp=logp_T, entropy=entropy_T, engine_logp=engine_logp_T)

        self.backend.model.eval()
        wanted = [all_tokens(sample) for group in groups for sample in group]
        return self._scored(groups, "score", self.backend.forward, known, wanted)

    def update(self, groups: Sequence[Group], algorithm: Algorithm) -> dict[str, float]:
        """Train on the groups; return metrics averaged over tokens and updates, the same on every rank.

        Raises UserError if training diverged.
        """
        averages = Averages()
        size = self.section.mini_batch
        if algorithm.asks_groups:
            groups = numbered(groups, size)
        self.backend.model.train(self.section.checkpointing)  # what only training mode switches on
        for epoch in range(self.section.epochs):
            for number, mini in enumerate(mini_batches(groups, size)):
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
        scores = self._scores(flat, work, forward, wanted)
        scored = iter(
            [known(sample, wanted_T, *found) for sample, wanted_T, found in zip(flat, wanted, scores, strict=True)]
        )
        return [tuple(next(scored) for _ in group) for group in groups]

    def _scores(
        self,
        flat: Sequence[TrainSample],
        work: str,
        forward: Callable[[ForwardInputs], Scores],
        wanted: Sequence[Tensor],
    ) -> list[Scores]:
        """Return the scores of each response's ``wanted`` tokens, the same on every rank."""
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
        return [scores_by_row.get(row, nothing) for row in range(len(flat))]

    def _seen_whole(self, mini: Sequence[TrainSample], algorithm: Algorithm) -> Sequence[TrainSample]:
        """Return the responses with the columns that the objective makes of the whole step, if it makes any."""
        rule: Callable[[Tokens], Mapping[str, Tensor]] | None = getattr(algorithm.objective, "over_step", None)
        if rule is None:
            return mini
        scores = self._scores(mini, "score", self.backend.forward, [all_tokens(sample) for sample in mini])
        whole = torch.cat([logp_T for logp_T, _ in scores]), torch.cat([entropy_T for _, entropy_T in scores])
        tokens = loss_columns(mini, whole, algorithm, step_entropy(mini, algorithm))
        with torch.no_grad():
            return over_step(mini, rule(tokens), tokens.mask_BT.shape)

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
        if not any(sample.in_loss for sample in mini):  # over-long filtering left nothing to train on
            return
        weight_B = weights_of(mini, algorithm, self.longest)
        step_entropy_N = step_entropy(mini, algorithm)
        mini = self._seen_whole(mini, algorithm)
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
            kept_BT = loss_BT.masked_fill(~tokens.mask_BT, 0.0)  # an objective may divide by a column, 0 at padding
            loss = (kept_BT * weight_B[rows, None].to(loss_BT)).sum()
            self.backend.backward(loss, last)
            averages.add("loss", float(loss.detach()), 0.0)
            observe(algorithm.objective, micro, tokens, columns, averages)
            if first and "engine_logp" not in mini[0].columns:
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
