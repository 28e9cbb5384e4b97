"""How long a response is: full score up to a length, less beyond it. Pure.

With ``best`` 0 and ``worst`` -1 it is DAPO's soft overlong punishment (arXiv 2503.14476, eq. 13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from archer.errors import GraderError, RecipeError
from archer.rewards.base import Response, RunsIn
from archer.types import Verdict


@dataclass(frozen=True)
class LengthReward:
    """Is the response neither too long nor too short?

    The score is ``best`` from ``least`` to ``target``, falls in a straight line to ``worst`` at ``limit`` and stays
    there, and rises from ``worst`` for an empty response to ``best`` at ``least``. Passed is what earns ``best``.
    Reasons: ``right``, ``long``, ``short``.
    """

    rules: ClassVar[int] = 1
    runs_in: ClassVar[RunsIn] = "inline"

    target: int = 1024
    """The longest response that costs nothing, in units."""
    limit: int = 2048
    """The length from which on a response earns ``worst``, in units."""
    least: int = 0
    """The shortest response that costs nothing, in units."""
    unit: Literal["tokens", "characters"] = "tokens"
    """What lengths are counted in."""
    best: float = 1.0
    """Score of a response of a good length."""
    worst: float = 0.0
    """Score of one that is far too long."""

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.target < self.limit:
            raise RecipeError(
                f"reward: length: expected least <= target < limit, found {self.least}, {self.target} and {self.limit}"
            )

    def grade_batch(self, items: Sequence[Response]) -> list[Verdict]:
        """Return one verdict a response. Raises GraderError where lengths in tokens are wanted and not known."""
        return [self._verdict(item) for item in items]

    def _verdict(self, item: Response) -> Verdict:
        length = len(item.text) if self.unit == "characters" else item.tokens
        if item.text and not length:
            raise GraderError(
                f"problem {item.problem.id}: reward 'length': the response's tokens are not known here; count with "
                "unit: characters"
            )
        share, reason = 1.0, "right"
        if length < self.least:
            share, reason = length / self.least, "short"
        elif length > self.target:
            share, reason = max(0.0, (self.limit - length) / (self.limit - self.target)), "long"
        return Verdict(self.worst + share * (self.best - self.worst), reason == "right", reason)
