"""A benchmark: one YAML in ``benchmarks/``, which pins its data, its prompt, its reward and its sampling."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from pydantic import with_config

from archer.errors import DataError, UserError, did_you_mean
from archer.evaluation.named_metrics import find_metrics
from archer.problems.rows import is_local
from archer.recipe.config import STRICT, read_yaml, typed
from archer.recipe.sections import DataSource
from archer.system import suite
from archer.types import DEFAULT_METRICS, Problem, Sampling

SUITES = "suites.yaml"  # names groups of benchmarks; the only file there that is not a benchmark


@with_config(STRICT)
@dataclass(frozen=True)
class Benchmark:
    """The contents of ``benchmarks/<name>.yaml``. ``samples`` is K; ``sha256`` is computed by :func:`fingerprint`.

    ``confirm`` names the pins that nobody has compared with the hub yet; until then rows are read from local files
    only. ``known`` gives the reason for every gold that its own reward does not grade as right. ``metrics`` are those
    that tables show, as :mod:`archer.evaluation.metrics` names them; the mean of the scores is always shown.
    """

    name: str
    title: str
    data: DataSource
    problems: int
    sha256: str
    samples: int
    licence: str
    source: str
    sampling: Sampling = field(default_factory=Sampling)
    confirm: tuple[Literal["revision", "sha256"], ...] = ()
    known: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = DEFAULT_METRICS

    def __post_init__(self) -> None:
        """Raise DataError for a sampling or a metric that makes no sense and for a missing revision or checksum."""
        sampling = self.sampling
        if self.samples > 1 and sampling.temperature == 0:
            raise DataError(
                f"{self.name}: temperature 0 makes its {self.samples} samples the same; set samples to 1 or a "
                "temperature above 0"
            )
        if (
            self.samples < 1
            or sampling.temperature < 0
            or not 0 < sampling.top_p <= 1
            or sampling.top_k < 0
            or sampling.max_tokens < 1
        ):
            raise DataError(f"{self.name}: samples {self.samples} with {sampling}: a value is out of its range")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256) and (self.sha256 or "sha256" not in self.confirm):
            raise DataError(
                f"{self.name}: sha256: expected 64 hexadecimal digits, found {self.sha256!r}; where it is not known "
                "yet, leave it empty and name it under confirm"
            )
        hub = self.data.path and not is_local(self.data)
        if hub and not self.data.revision and "revision" not in self.confirm:
            raise DataError(f"{self.name}: data: no revision; where it is not known yet, name it under confirm")
        try:
            for metric in find_metrics(self.metrics):
                metric.refuse(self.samples)
        except UserError as error:
            raise DataError(f"{self.name}: {error}") from error


def benchmark_names() -> list[str]:
    """Return the names of all benchmarks."""
    return sorted(path.stem.replace("_", "-") for path in suite("benchmarks").glob("*.yaml") if path.name != SUITES)


def expand(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names with each suite replaced by its members, in order, without repeats; files stay.

    Raises DataError.
    """
    suites, known = read_suites(), benchmark_names()
    expanded = list[str]()
    for name in names:
        if name not in suites and name not in known and not is_file(name):
            raise DataError(
                f"no benchmark or suite {name!r}{did_you_mean(name, [*known, *suites])}; a file's name ends in .yaml"
            )
        expanded += suites.get(name, (name,))
    return tuple(dict.fromkeys(expanded))


def read_suites() -> dict[str, tuple[str, ...]]:
    """Return the suites of ``benchmarks/suites.yaml``. Raises DataError for a member that is no benchmark."""
    known, suites = benchmark_names(), dict[str, tuple[str, ...]]()
    for name, members in read_yaml(suite("benchmarks") / SUITES).items():
        if not isinstance(members, list) or not members:
            raise DataError(f"benchmarks/{SUITES}: {name}: expected a list of benchmarks, found {members!r}")
        for member in members:
            if member not in known:
                raise DataError(f"benchmarks/{SUITES}: {name}: no benchmark {member!r}{did_you_mean(member, known)}")
        suites[name] = tuple(members)
    return suites


def is_file(name: str) -> bool:
    """Whether a benchmark is named by its file, ``./mine.yaml``."""
    return name.endswith((".yaml", ".yml"))


def benchmark_file(name: str) -> Path:
    """Return the YAML of a benchmark, or the file that is named. Raises DataError where there is none."""
    if is_file(name):
        if not Path(name).is_file():
            raise DataError(f"{name}: no such benchmark file")
        return Path(name)
    if name not in benchmark_names():
        raise DataError(f"no benchmark {name!r}{did_you_mean(name, benchmark_names())}")
    return suite("benchmarks") / f"{name.replace('-', '_')}.yaml"


def read_benchmark(name: str) -> Benchmark:
    """Read ``benchmarks/<name>.yaml``, or a file. Raises DataError where there is none, RecipeError for a bad key."""
    path = benchmark_file(name)
    if is_file(name):
        return typed(Benchmark, read_yaml(path), name)
    benchmark = typed(Benchmark, read_yaml(path), f"benchmarks/{path.name}")
    if benchmark.name != name:
        raise DataError(f"benchmarks/{path.name}: name: {benchmark.name!r} is asked for as {name!r}; make them agree")
    return benchmark


def called(name: str) -> str:
    """Return what results call a benchmark that is named so: the ``name`` in its file, else the same."""
    return read_benchmark(name).name if is_file(name) else name


def unconfirmed(benchmark: Benchmark) -> list[str]:
    """Return a sentence for each pin that nobody has compared with the hub; they belong beside every score."""
    sentences = {
        "revision": "the hub's revision is not known: the rows are those of a local copy",
        "sha256": "sha256 is that of a local copy, not yet compared with the hub",
    }
    return [f"{benchmark.name}: {sentences[pin]}" for pin in benchmark.confirm if pin != "sha256" or benchmark.sha256]


def fingerprint(problems: Sequence[Problem]) -> str:
    """Return the sha256 of the normalised rows: id, prompt, system, reward and gold of every problem."""
    digest = hashlib.sha256()
    names = [column.name for column in fields(Problem) if column.name != "meta"]
    for problem in problems:
        row = {name: getattr(problem, name) for name in names}
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def faults(benchmark: Benchmark, problems: Sequence[Problem]) -> list[str]:
    """Return why these problems are not the benchmark: their number, ids, tests or checksum. Empty if they are."""
    reasons = []
    if len(problems) != benchmark.problems:
        reasons.append(f"{len(problems)} problems, its YAML says {benchmark.problems}")
    names = {problem.id for problem in problems}
    if len(names) != len(problems):
        reasons.append(f"{len(problems)} problems have {len(names)} different ids")
    public = sum(problem.meta.get("private_tests") == 0 for problem in problems)
    if public:
        reasons.append(
            f"{public} problems come with their public tests only, which a wrong program may pass: these rows are "
            "not this benchmark; use the data set's own files"
        )
    sha256 = fingerprint(problems)
    if benchmark.sha256 and sha256 != benchmark.sha256:
        reasons.append(f"the rows' sha256 is {sha256}, its YAML says {benchmark.sha256}")
    return reasons


def verify(benchmark: Benchmark, problems: Sequence[Problem]) -> None:
    """Raise DataError unless these are the benchmark's problems, so that a changed data set is never scored."""
    reasons = faults(benchmark, problems)
    if reasons:
        raise DataError(f"{benchmark.name}: {'; '.join(reasons)}")
