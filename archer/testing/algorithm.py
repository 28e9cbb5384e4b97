"""What every algorithm must do, tried on a made step with the real trainer over the smallest of models.

V tokens of the vocabulary, N tokens of a forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from archer.algorithms import ALGORITHMS, Algorithm
from archer.algorithms.needs import check_needs
from archer.distributed import Ranks
from archer.errors import UserError
from archer.parts import find_part
from archer.recipe.sections import UpdateSection
from archer.rollouts.advantages import assign_advantages
from archer.trainer import Trainer
from archer.trainer.batch import Group
from archer.trainer.columns import has_gradient
from archer.trainer.packing import ForwardInputs
from archer.types import Problem, Rollout, Verdict

VOCABULARY, LONGEST = 11, 9
FAR = 1000.0  # nats between two policies: exp() of it is no number any more
SCORES = ((1.0, 0.0, 0.0, 1.0), (0.25, 1.0, 0.0, 0.5), (0.0, 0.0, 0.0, 1.0), (1.0, 1.0, 1.0, 1.0))
Graded = list[tuple[Rollout, Verdict]]


class BigramModel(nn.Module):
    """Log-odds of each token after each other one, (V, V): the smallest model of tokens with weights to share."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        drawn_VV = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(seed))
        self.logit_VV = nn.Parameter(drawn_VV.double())

    def forward(self, micro: ForwardInputs) -> tuple[Tensor, Tensor]:
        """Return log-probs and entropies of the targets, both (N,)."""
        logp_NV = self.logit_VV[micro.id_BT.flatten()[micro.place_N].long()].log_softmax(-1)
        logp_N = logp_NV.gather(1, micro.target_N[:, None].long())[:, 0]
        return logp_N, -(logp_NV.exp() * logp_NV).sum(-1)


class BigramBackend:
    """A :class:`~archer.trainer.backend.TrainBackend` in float64 by gradient descent, without clipping."""

    def __init__(self, sharing: bool = True) -> None:
        self.model, self.frozen, self.sharing = BigramModel(0), BigramModel(1), sharing

    def forward(self, micro: ForwardInputs) -> tuple[Tensor, Tensor]:
        """Return log-probs and entropies under the policy."""
        scores: tuple[Tensor, Tensor] = self.model(micro)
        return scores

    def reference(self, micro: ForwardInputs) -> tuple[Tensor, Tensor]:
        """Return log-probs and entropies under another model, so that a KL has a gradient from the start."""
        scores: tuple[Tensor, Tensor] = self.frozen(micro)
        return scores

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of a micro-batch's loss."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, lr: float) -> float:
        """Move the weights against the gradient; return its norm."""
        weight_VV = self.model.logit_VV
        slope_VV = torch.zeros_like(weight_VV) if weight_VV.grad is None else weight_VV.grad
        with torch.no_grad():
            weight_VV.sub_(lr * slope_VV)
        weight_VV.grad = None
        return float(slope_VV.norm())


def check_algorithm(algorithm: Algorithm | str) -> None:
    """Try an algorithm on a made step; raise AssertionError with a sentence for the first thing that does not hold.

    - whatever it asks for is supplied, and what it returns has the right shape;
    - one optimizer step moves the weights alike, to 1e-9, however its responses are cut into micro-batches, padded or
      packed, and in whatever order its groups come; and bitwise alike when it is made again;
    - a response that it skips would not have moved them;
    - loss, gradient and metrics are finite, also where the policy has moved far from the one that sampled.

    ``algorithm`` may be a name as in a recipe, ``./mine.py:MINE``. Raises UserError where it is refused, or where a
    function of its own fails.
    """
    algorithm = find_part("algorithms", algorithm, ALGORITHMS) if isinstance(algorithm, str) else algorithm
    if not isinstance(algorithm, Algorithm):
        raise UserError(f"expected an archer.algorithms.Algorithm, found {algorithm!r}; Algorithm(OBJECTIVE) makes one")
    check_needs(algorithm)
    groups = [made_group(number, scores) for number, scores in enumerate(SCORES)]
    whole_VV, metrics = updated(algorithm, groups)
    assert all(map(math.isfinite, metrics.values())), f"metrics are not finite: {metrics}"
    again_VV, _ = updated(algorithm, groups)
    assert torch.equal(again_VV, whole_VV), "the same step made again moves the weights differently"
    ways = {
        "each response is a micro-batch": updated(algorithm, groups, micro=1),
        "rows are padded": updated(algorithm, groups, sharing=False),
        "rows are padded and each is a micro-batch": updated(algorithm, groups, micro=1, sharing=False),
        "the groups come in another order": updated(algorithm, groups[::-1]),
    }
    for way, (weight_VV, _) in ways.items():
        apart = float((weight_VV - whole_VV).abs().max())
        assert apart <= 1e-9, f"the weights move by up to {apart:.3g} otherwise where {way}"
    check_skips(algorithm, groups)
    for shift in (-FAR, FAR):
        far = [[(moved(rollout, shift), verdict) for rollout, verdict in group] for group in groups]
        try:
            updated(algorithm, far)
        except UserError as error:
            raise AssertionError(
                f"a policy {FAR:.0f} nats from that of the rollout is no longer finite: {error}"
            ) from error


def check_skips(algorithm: Algorithm, groups: Sequence[Graded]) -> None:
    """Raise AssertionError where a response that the objective skips has a gradient."""
    samples = assign_advantages(groups, algorithm, LONGEST)
    skipped = [tuple(one for one in group if one.in_loss and not has_gradient(one, algorithm)) for group in samples]
    if not any(skipped):
        return
    objective = algorithm.objective
    trained = replace(algorithm, objective=Unskipping(objective))  # type: ignore[arg-type]
    before_VV = BigramModel(0).logit_VV.detach()
    weight_VV, _ = trained_on(trained, [group for group in skipped if group], 10**6, sharing=True)
    moved_by = float((weight_VV - before_VV).abs().max())
    assert moved_by == 0, (
        f"{type(objective).__name__}.skips: a response that it skips moves the weights by {moved_by:.3g}: let it not"
    )


class Unskipping:
    """An objective that skips no response."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __call__(self, *arguments: object) -> object:
        return self.inner(*arguments)  # type: ignore[operator]

    def __getattr__(self, name: str) -> object:
        if name == "skips":
            raise AttributeError(name)
        return getattr(self.inner, name)


def updated(
    algorithm: Algorithm, groups: Sequence[Graded], micro: int = 10**6, sharing: bool = True
) -> tuple[Tensor, Mapping[str, float]]:
    """Return the weights after one optimizer step on graded groups, (V, V), and its metrics."""
    return trained_on(algorithm, assign_advantages(groups, algorithm, LONGEST), micro, sharing)


def trained_on(
    algorithm: Algorithm, samples: Sequence[Group], micro: int, sharing: bool
) -> tuple[Tensor, Mapping[str, float]]:
    """Return the weights after one optimizer step on samples, (V, V), and its metrics."""
    backend = BigramBackend(sharing)
    section = UpdateSection(lr=0.1, warmup=0, mini_batch=len(SCORES), micro_batch_tokens=micro)
    trainer = Trainer(backend, section, 1, LONGEST, Ranks())  # type: ignore[arg-type]
    if algorithm.needs_reference:
        samples = trainer.add_reference(samples, algorithm)
    metrics = trainer.update(samples, algorithm)
    return backend.model.logit_VV.detach(), metrics


def made_group(number: int, scores: Sequence[float]) -> Graded:
    """Return a group of ragged responses of the model's own, of which the last was cut, with these scores."""
    rng, model = np.random.default_rng(number), BigramModel(0)
    logp_VV = model.logit_VV.detach().log_softmax(-1).numpy()
    problem = Problem(f"made/{number}", "made", "", "made", "")
    group = []
    for sample, score in enumerate(scores):
        prompt = np.array([number + 1, 3], np.int32)
        last = sample == len(scores) - 1
        tokens = rng.integers(1, VOCABULARY, LONGEST if last else 1 + int(rng.integers(LONGEST - 1))).astype(np.int32)
        before = np.concatenate([prompt[-1:], tokens[:-1]])
        entropy_N = -(np.exp(logp_VV[before]) * logp_VV[before]).sum(1)
        rollout = Rollout(
            problem, sample, prompt, tokens, logp_VV[before, tokens].astype(np.float32), entropy_N.astype(np.float32),
            "", "length" if last else "end",
        )  # fmt: skip
        steps = tuple(float(score * (place + 1) / len(tokens)) for place in range(len(tokens)))
        group.append((rollout, Verdict(score, score == 1, "right" if score == 1 else "wrong", token_scores=steps)))
    return group


def moved(rollout: Rollout, shift: float) -> Rollout:
    """Return a rollout whose policy was ``shift`` nats away at every other token."""
    logps = np.asarray(rollout.logps, np.float32) + shift * (np.arange(len(rollout.tokens)) % 2)
    return replace(rollout, logps=logps.astype(np.float32))
