"""What an evaluation leaves behind: the outcome of every sample, and where it came from.

Every number of every table is computed from these files; nothing in them is an average.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from archer.aside import write_aside
from archer.errors import DataError
from archer.types import Json, Sampling


@dataclass(frozen=True)
class Result:
    """One model on one benchmark: P problems x K samples.

    ``label`` names the row of a table (an algorithm, or ``base``), ``seed`` its training seed. ``outcomes``
    (P, K) are right or not, as ``reasons`` say; these, ``stops`` and ``tokens`` (lengths of the responses) have
    the same shape; so have ``answers``, what the verifier took for the answer (cut short, empty where there is none),
    unless empty. ``clusters`` and ``dates`` (P,) name each problem's contest and day, empty strings where the
    data has none; nothing where it has none at all. ``weights`` is the sha256 of the model's weights (a server's
    name for them; empty for a point of a curve, which no file stands behind), ``prompts`` that of all that the model
    was given. ``verifier`` holds by reward the versions that decide verdicts. ``seconds`` are those of drawing, in all
    sittings, and of grading after it. ``provenance`` holds other versions, commit, machine, engine and the
    recipe's digest; under ``drawn_by`` those of earlier sittings, where they differ.
    """

    label: str
    seed: int
    step: int
    benchmark: str
    sha256: str
    sampling: Sampling
    problems: tuple[str, ...]
    outcomes: tuple[tuple[bool, ...], ...]
    reasons: tuple[tuple[str, ...], ...]
    stops: tuple[tuple[str, ...], ...]
    tokens: tuple[tuple[int, ...], ...]
    seconds: float
    provenance: Mapping[str, Json]
    answers: tuple[tuple[str, ...], ...] = ()
    clusters: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    weights: str = ""
    prompts: str = ""
    verifier: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a result whose outcomes are not problems x samples: such a score would be of another set."""
        if not self.problems or not self.outcomes or not self.outcomes[0]:
            raise DataError(f"{self.benchmark}: a result without outcomes")
        for name in ("outcomes", "reasons", "stops", "tokens"):
            shape = {len(row) for row in getattr(self, name)}
            if len(getattr(self, name)) != len(self.problems) or shape != {self.samples}:
                raise DataError(
                    f"{self.benchmark}: {name} are not {len(self.problems)} problems x {self.samples} samples"
                )
        if self.outcomes != tuple(tuple(reason == "right" for reason in row) for row in self.reasons):
            raise DataError(f"{self.benchmark}: outcomes and reasons contradict each other: only 'right' is right")
        if self.answers and [len(row) for row in self.answers] != [self.samples] * len(self.problems):
            raise DataError(f"{self.benchmark}: answers are not {len(self.problems)} problems x {self.samples} samples")
        for name in ("clusters", "dates"):
            if getattr(self, name) and len(getattr(self, name)) != len(self.problems):
                raise DataError(f"{self.benchmark}: {name} are not one for each of {len(self.problems)} problems")

    @property
    def samples(self) -> int:
        """K, the samples of each problem."""
        return len(self.outcomes[0])

    def write(self, path: Path) -> None:
        """Write the result as JSON."""
        write_aside(path, json.dumps(asdict(self)) + "\n")


def read_result(path: Path) -> Result:
    """Read one result. Raises DataError naming the file when it is damaged, with the first of what is wrong."""
    try:
        return TypeAdapter(Result).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        why = f"{where}: {first['msg']}, found {first['input']!r:.60}" if where else first["msg"]
        raise DataError(f"{path}: not a result of `archer`: {why}") from error
    except (ValueError, DataError) as error:  # no JSON, no text; a wrong shape
        raise DataError(f"{path}: not a result of `archer`: {error}") from error
