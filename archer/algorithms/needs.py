"""What an algorithm may ask for: the names of its columns, and the parameters of its advantage and aggregation.

Whatever nobody asks for is not computed, kept or moved. B responses, T tokens, P groups, G samples a group.
"""

from __future__ import annotations

from archer.algorithms.base import Algorithm, extra_parameters
from archer.errors import UserError, did_you_mean

SUPPLIED = {
    "ref_logp": "log-probs under the reference, the weights before training (costs a forward pass a step)",
    "engine_logp": "log-probs as the engine reported them (old_logp: the policy's own, where it scored again)",
    "entropy": "entropy at rollout, in nats",
    "policy_entropy": "entropy of the current policy at every update, without gradient",
    "entropy_gradient": "the gradient of policy_entropy (an entropy bonus needs it); implies policy_entropy",
    "step_entropy": "entropies at rollout of all tokens of the optimizer step, as tokens.step_entropy_N",
    "reward": "the reward that enters the advantage: the verdict's score with any length penalty",
    "score": "the verdict's score",
    "passed": "whether the verdict says that the response passed (bool)",
    "token_score": "a process reward's score of each token",
    "group": "the number of the response's group in the optimizer step, from 0 (int64)",
}
"""The names of ``Objective.needs`` that any algorithm may ask for, and what they are; those of ``Algorithm.columns``
are the algorithm's own. All are (B, T) in ``tokens[name]``; what belongs to a response is the same at each token."""

GIVEN = frozenset({"logp", "old_logp", "advantage", "mask"})
"""What every objective gets unasked."""

ROLLOUT_COLUMNS = frozenset({"reward", "score", "passed", "token_score"})
"""Those that are made from a graded rollout, when asked for."""

PER_RESPONSE = ("score_PG", "passed_PG", "length_PG")
PER_TOKEN = ("mask", "old_logp", "entropy", "token_score")
OF_THE_STEP = ("group_B", "signal_B")


def advantage_columns(algorithm: Algorithm) -> frozenset[str]:
    """Return the names of the per-token columns that the advantage function asks for, as ``NAME_PGT``."""
    names = extra_parameters(algorithm.advantage_function, 1)
    return frozenset(name.removesuffix("_PGT") for name in names if name.endswith("_PGT"))


def rollout_columns(algorithm: Algorithm) -> frozenset[str]:
    """Return the names of the columns to be made of graded rollouts: asked for by the objective or the advantage."""
    return (algorithm.objective.needs | advantage_columns(algorithm)) & (ROLLOUT_COLUMNS | algorithm.columns.keys())


def check_needs(algorithm: Algorithm) -> None:
    """Raise UserError where the algorithm asks for what nothing supplies, or names a part that does not exist."""
    kind, own = type(algorithm.objective).__name__, algorithm.columns.keys()
    taken = sorted(own & (SUPPLIED.keys() | GIVEN))
    if taken:
        raise UserError(f"columns: {taken[0]!r} is a name of the project's own; give the column another")
    _check(f"{kind}: needs", algorithm.objective.needs - GIVEN, {*SUPPLIED, *own}, "add a function to columns")
    asked = extra_parameters(algorithm.advantage_function, 1)
    known = {*PER_RESPONSE, *(f"{name}_PGT" for name in (*PER_TOKEN, *own))}
    _check("advantage: its parameters name", asked, known, "give a hyperparameter a default")
    asked = extra_parameters(algorithm.aggregation_function, 2)
    _check("aggregation: its parameters name", asked, set(OF_THE_STEP), "give a hyperparameter a default")


def _check(where: str, asked: frozenset[str] | tuple[str, ...], known: set[str], next_step: str) -> None:
    for name in sorted(asked):
        if name not in known:
            raise UserError(f"{where} {name!r}, which nothing supplies{did_you_mean(name, known)}; {next_step}")
