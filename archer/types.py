"""The nouns of the project, in the order in which a step makes them.

Problem -> Rollout -> Verdict -> (tensors, in ``batch.py``) -> Result. All frozen, all free of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = Any  # None, bool, int, float, str, list or dict, as ``json`` reads them
Stop = Literal["end", "length", "error"]


@dataclass(frozen=True)
class Problem:
    """One task with what is needed to grade an answer to it.

    ``reward`` names an entry of ``archer.rewards.REWARDS``; ``gold`` is that reward's ground truth
    (a LaTeX string for ``math``, tests for ``code``) and never reaches the model or the sandbox guest.
    ``meta`` may hold ``cluster``, the contest that several problems share, and ``date``, its day (2024-08-01).
    """

    id: str
    source: str
    prompt: str
    reward: str
    gold: Json
    system: str = ""
    meta: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Rollout:
    """One sampled response.

    ``tokens`` includes the end token when ``stop == "end"``. ``logps`` and ``entropies`` (nats) belong to
    the sampling distribution softmax(logits / temperature) before top-k and top-p truncation; an engine
    that cannot report entropies leaves them empty. ``version`` counts the training steps behind the weights.
    """

    problem: Problem
    sample: int
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    logps: tuple[float, ...]
    entropies: tuple[float, ...]
    text: str
    stop: Stop
    version: int = 0


@dataclass(frozen=True)
class Verdict:
    """What a reward says of one rollout.

    ``reward`` enters training; ``correct`` enters avg@K and pass@k. ``reason`` is one word per kind of
    verdict (``right``, ``wrong``, ``no_answer``, ``timeout`` ...), counted in every result.
    """

    reward: float
    correct: bool
    reason: str
    answer: str = ""


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn. ``top_k`` 0 and ``top_p`` 1.0 mean no truncation."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 1024


@dataclass(frozen=True)
class Ask:
    """A request to an engine: ``samples`` are the sample indices to draw for ``problem``."""

    problem: Problem
    samples: tuple[int, ...]
    seed: int
