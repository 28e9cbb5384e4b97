"""The records of the project, in the order in which a run makes them.

Problem -> Request -> Rollout -> Verdict -> (tensors, in ``trainer/batch.py``) -> Result. All frozen, all free of torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from archer.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Json = Any  # None, bool, int, float, str, list or dict, as ``json`` reads them
Stop = Literal["end", "length", "error"]


@dataclass(frozen=True)
class Problem:
    """One task with what is needed to grade an answer to it.

    ``reward`` is the spec of its reward, a name or more (:mod:`archer.recipe.rewards`); ``gold`` is that reward's
    ground truth (a LaTeX string for ``math``, tests for ``code``) and never reaches the model or the sandbox guest.
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
class Request:
    """One sample to draw: the ``sample``-th of ``problem``, from the random stream of (seed, problem, sample)."""

    problem: Problem
    sample: int
    seed: int


@dataclass(frozen=True, eq=False)
class Rollout:
    """One sampled response of T tokens.

    ``prompt_tokens`` and ``tokens`` (T,) are int32; ``tokens`` includes the end token when ``stop == "end"``. ``logps``
    and ``entropies`` (T,), float32, in nats, belong to the sampling distribution softmax(logits / temperature) before
    top-k and top-p truncation; both are empty where they were not asked for, and ``entropies`` of an engine that
    cannot report them. ``version`` counts the training steps behind the weights. ``seed`` is the sample's own
    (:func:`archer.engines.base.sample_seed`). ``counted`` is T where a server tells the number of tokens alone.
    """

    problem: Problem
    sample: int
    prompt_tokens: NDArray[np.int32]
    tokens: NDArray[np.int32]
    logps: NDArray[np.float32]
    entropies: NDArray[np.float32]
    text: str
    stop: Stop
    version: int = 0
    seed: int = 0
    counted: int | None = None

    @classmethod
    def of_text(
        cls, problem: Problem, text: str, stop: Stop = "end", *, sample: int = 0, seed: int = 0, counted: int = 0
    ) -> Self:
        """Return a rollout without token ids: what a server tells, what a store keeps, or a text to grade."""
        import numpy as np  # `import archer` does without it

        ids, numbers = np.empty(0, np.int32), np.empty(0, np.float32)
        return cls(problem, sample, ids, ids, numbers, numbers, text, stop, seed=seed, counted=counted)

    @property
    def length(self) -> int:
        """T, the number of tokens, the end token included."""
        return len(self.tokens) if self.counted is None else self.counted


DEFAULT_METRICS = ("mean", "pass@k")  # what tables show of a benchmark that names no metrics
NOT_PASSED = frozenset({"wrong", "no_answer"})  # reasons that contradict a pass
# Reasons of verdicts on what ended at a limit of the grader or the sandbox; they may depend on the machine.
AT_A_LIMIT = frozenset({"timeout", "cpu_timeout", "wall_timeout", "memory", "output"})


@dataclass(frozen=True)
class Verdict:
    """What a reward says of one response.

    - ``score``: enters training, and the means of an evaluation (1 is right, 0 is wrong, or what lies between)
    - ``passed``: enters pass@k
    - ``reason``: one word per kind of verdict (``right``, ``wrong``, ``no_answer``, ``timeout`` ...), counted in every
      result
    - ``parts``: where several rewards are summed, the score of each by its name
    - ``token_scores``: a process reward's score of each token of the response; empty without one
    """

    score: float
    passed: bool
    reason: str
    answer: str = ""
    parts: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    token_scores: tuple[float, ...] = field(default=(), repr=False)

    @property
    def reward(self) -> float:
        """``score``, by its earlier name."""
        return self.score

    @property
    def correct(self) -> bool:
        """``passed``, by its earlier name."""
        return self.passed


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn. ``top_k`` 0 and ``top_p`` 1.0 mean no truncation."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 1024


@dataclass(frozen=True)
class Result:
    """One model on one benchmark: P problems x K samples.

    ``label`` names the row of a table (an algorithm, or ``base``), ``seed`` its training seed. ``passed`` (P, K) says
    of each sample whether it counts as solved, ``scores`` (P, K) how good it is: any finite number; left out, 1.0 where
    passed and 0.0 elsewhere. ``reasons``, ``stops`` and ``tokens`` (lengths of the responses) have the same shape; so
    have ``answers``, what the verifier took for the answer (cut short, empty where there is none), unless empty.
    ``metrics`` are those that the benchmark names. ``clusters`` and ``dates`` (P,) name each problem's contest and day,
    empty strings where the data has none; nothing where it has none at all. ``weights`` is the sha256 of the
    model's weights (a server's name for them; empty for a point of a curve, which no file stands behind), ``prompts``
    that of all that the model was given. ``verifier`` holds by reward the versions that decide verdicts. ``seconds``
    are those of drawing, in all sessions, and of grading after it. ``provenance`` holds other versions, commit,
    machine, engine, the recipe's digest, and the sources of metrics that are not shipped; under ``drawn_by`` those of
    earlier sessions, where they differ.
    """

    label: str
    seed: int
    step: int
    benchmark: str
    sha256: str
    sampling: Sampling
    problems: tuple[str, ...]
    passed: tuple[tuple[bool, ...], ...]
    reasons: tuple[tuple[str, ...], ...]
    stops: tuple[tuple[str, ...], ...]
    tokens: tuple[tuple[int, ...], ...]
    seconds: float
    provenance: Mapping[str, Json]
    answers: tuple[tuple[str, ...], ...] = ()
    scores: tuple[tuple[float, ...], ...] = ()
    metrics: tuple[str, ...] = DEFAULT_METRICS
    clusters: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    weights: str = ""
    prompts: str = ""
    verifier: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a result that is not problems x samples, a score that is no number, a pass that its reason denies."""
        if not self.problems or not self.passed or not self.passed[0]:
            raise DataError(f"{self.benchmark}: a result without samples")
        if not self.scores:
            object.__setattr__(self, "scores", scores_of(self.passed))
        for name in ("passed", "scores", "reasons", "stops", "tokens"):
            shape = {len(row) for row in getattr(self, name)}
            if len(getattr(self, name)) != len(self.problems) or shape != {self.samples}:
                raise DataError(
                    f"{self.benchmark}: {name} are not {len(self.problems)} problems x {self.samples} samples"
                )
        for problem, *rows in zip(self.problems, self.scores, self.passed, self.reasons, strict=True):
            for sample, (score, passed, reason) in enumerate(zip(*rows, strict=True)):
                if not math.isfinite(score):
                    raise DataError(f"{self.benchmark}: {problem}, sample {sample}: score {score} is no finite number")
                if contradicts(passed, reason):
                    raise DataError(
                        f"{self.benchmark}: passes and reasons contradict each other: {problem}, sample {sample} "
                        f"is {'passed' if passed else 'not passed'}, its reason {reason!r}"
                    )
        if self.answers and [len(row) for row in self.answers] != [self.samples] * len(self.problems):
            raise DataError(f"{self.benchmark}: answers are not {len(self.problems)} problems x {self.samples} samples")
        for name in ("clusters", "dates"):
            if getattr(self, name) and len(getattr(self, name)) != len(self.problems):
                raise DataError(f"{self.benchmark}: {name} are not one for each of {len(self.problems)} problems")

    @property
    def samples(self) -> int:
        """K, the samples of each problem."""
        return len(self.passed[0])

    @property
    def right_or_wrong(self) -> bool:
        """Whether every score is 1 where passed and 0 elsewhere, so that the mean is the share of right samples."""
        return self.scores == scores_of(self.passed)


def contradicts(passed: bool, reason: str) -> bool:
    """Whether a verdict's reason denies its pass, or claims one that it has not."""
    return reason in NOT_PASSED if passed else reason == "right"


def scores_of(passed: tuple[tuple[bool, ...], ...]) -> tuple[tuple[float, ...], ...]:
    """Return the scores of samples that are right or wrong: 1.0 and 0.0."""
    return tuple(tuple(map(float, row)) for row in passed)
