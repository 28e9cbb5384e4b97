"""From graded groups to training samples: rewards, the columns that the algorithm asks for, advantages.

P groups, G samples a group, T tokens of a response, the longest where they are padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from archer.algorithms import Algorithm
from archer.algorithms.base import applied, extra_parameters
from archer.algorithms.needs import rollout_columns
from archer.algorithms.shaping import overlong_penalty
from archer.errors import GraderError, UserError
from archer.rollouts.dynamic_sampling import Graded
from archer.trainer.batch import Column, Group, TrainSample, all_tokens, pad, to_sample

OF_VERDICT: dict[str, Callable[[Graded], float | bool]] = {
    "score": lambda graded: float(graded[1].score),
    "passed": lambda graded: graded[1].passed,
}


def shaped_reward(graded: Graded, algorithm: Algorithm, max_tokens: int) -> float:
    """Return the reward that enters the advantage: the verdict's plus the overlong penalty (0 to -1)."""
    rollout, verdict = graded
    if not algorithm.overlong_buffer:
        return verdict.score
    buffer = max(1, round(algorithm.overlong_buffer * max_tokens))
    return verdict.score + overlong_penalty(len(rollout.tokens), max_tokens, buffer)


def assign_advantages(groups: Sequence[Sequence[Graded]], algorithm: Algorithm, max_tokens: int) -> list[Group]:
    """Return the groups as training samples, each with its advantage and the columns that the algorithm asks for.

    Raises GraderError for token scores that are not one a token, UserError for an advantage or a column of another
    shape than it should have.
    """
    if not groups:
        return []
    rewards = [[shaped_reward(graded, algorithm, max_tokens) for graded in group] for group in groups]
    made = [samples_of(group, row, algorithm) for group, row in zip(groups, rewards, strict=True)]
    function, reward_PG = algorithm.advantage_function, torch.tensor(rewards, dtype=torch.float64)
    more = {name: asked_for(name, groups, made) for name in extra_parameters(function, 1)}
    advantage = applied(f"advantage {algorithm.advantage!r}", function, reward_PG, **more)
    lengths = torch.tensor([[len(sample.tokens) for sample in group] for group in made])
    if advantage.shape not in (reward_PG.shape, (*reward_PG.shape, int(lengths.max()))):
        raise UserError(
            f"advantage {algorithm.advantage!r}: returned {tuple(advantage.shape)}; return one number for each of "
            f"{reward_PG.shape[0]} groups of {reward_PG.shape[1]}, or for each of their {int(lengths.max())} tokens"
        )
    return [
        tuple(with_advantage(sample, value) for sample, value in zip(group, row, strict=True))
        for group, row in zip(made, advantage, strict=True)
    ]


def with_advantage(sample: TrainSample, advantage: Tensor) -> TrainSample:
    """Return the sample with its advantage: a number, or one for each token and padding."""
    if not advantage.dim():
        return sample.having(advantage=float(advantage))
    return sample.having(advantage=advantage[: len(sample.tokens)].float())


def samples_of(group: Sequence[Graded], rewards: Sequence[float], algorithm: Algorithm) -> Group:
    """Return a graded group as samples with the columns of graded rollouts that the algorithm asks for."""
    names = rollout_columns(algorithm)
    own = {name: own_column(name, group, algorithm) for name in names & algorithm.columns.keys()}
    samples = []
    for row, (graded, reward) in enumerate(zip(group, rewards, strict=True)):
        columns: dict[str, Column] = {name: made(graded) for name, made in OF_VERDICT.items() if name in names}
        columns |= {name: made[row] for name, made in own.items()}
        if "reward" in names:
            columns["reward"] = reward
        scores = token_scores(graded, asked="token_score" in names)
        if "token_score" in names:
            columns["token_score"] = scores
        in_loss = graded[0].stop == "end" or not algorithm.overlong_filter
        samples.append(to_sample(graded[0], in_loss=in_loss, **columns))
    return tuple(samples)


def token_scores(graded: Graded, *, asked: bool) -> Sequence[float]:
    """Return the verdict's score of each token. Raises GraderError or UserError where there is not one a token."""
    rollout, verdict = graded
    if asked and not len(verdict.token_scores):
        raise UserError(
            f"{rollout.problem.id}: the algorithm asks for token scores, and reward {rollout.problem.reward!r} gives "
            "none; choose a process reward, or an advantage and an objective without token_score"
        )
    if len(verdict.token_scores) not in (0, len(rollout.tokens)):
        raise GraderError(
            f"{rollout.problem.id}: reward {rollout.problem.reward!r} gave {len(verdict.token_scores)} token scores "
            f"for a response of {len(rollout.tokens)} tokens; give one for each, or none"
        )
    return verdict.token_scores


def own_column(name: str, group: Sequence[Graded], algorithm: Algorithm) -> Sequence[Column]:
    """Return an algorithm's own column of each response. Raises UserError where it is not one number a token."""
    made = list(algorithm.columns[name](group))
    found = [np.shape(column) for column in made]
    expected = [(len(rollout.tokens),) for rollout, _ in group]
    if found != expected:
        raise UserError(
            f"columns: {name}: returned shapes {found} for a group of responses of {expected} tokens "
            f"({group[0][0].problem.id}); return one array (T,) for each response"
        )
    return made


def asked_for(name: str, groups: Sequence[Sequence[Graded]], made: Sequence[Group]) -> Tensor:
    """Return what a parameter of an advantage function names, (P, G) or (P, G, T)."""
    if name == "length_PG":
        return torch.tensor([[len(sample.tokens) for sample in group] for group in made])
    stem, _, axes = name.rpartition("_")
    if axes == "PG":
        return torch.tensor([[OF_VERDICT[stem](graded) for graded in group] for group in groups])
    if stem == "entropy" and "entropy" not in made[0][0].columns:
        raise UserError(f"advantage: asks for {name}, and the engine reports no entropies; sample with engine: native")
    columns = [all_tokens(one) if stem == "mask" else one[stem] for group in made for one in group]
    padded = pad(columns, torch.device("cpu"))
    return padded.view(len(made), len(made[0]), -1)
