"""A benchmark: one YAML in ``benchmarks/``, which pins its data, its prompt, its reward and its sampling."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from pydantic import with_config

from archer.config import STRICT, read_yaml, typed
from archer.errors import DataError, did_you_mean
from archer.home import suite
from archer.recipe import Source
from archer.types import Problem, Sampling


@with_config(STRICT)
@dataclass(frozen=True)
class Benchmark:
    """What ``benchmarks/<name>.yaml`` holds. ``samples`` is K; ``sha256`` is :func:`fingerprint`'s."""

    name: str
    title: str
    data: Source
    problems: int
    sha256: str
    samples: int
    licence: str
    source: str
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        """Refuse samplings that cannot be meant. Raises DataError."""
        one = self.sampling
        if self.samples > 1 and one.temperature == 0:
            raise DataError(
                f"{self.name}: temperature 0 makes its {self.samples} samples the same; set samples to 1 or a "
                "temperature above 0"
            )
        if self.samples < 1 or one.temperature < 0 or not 0 < one.top_p <= 1 or one.top_k < 0 or one.max_tokens < 1:
            raise DataError(f"{self.name}: samples {self.samples} with {one}: a value is out of its range")


def benchmark_names() -> list[str]:
    """Return the names of all benchmarks."""
    return sorted(path.stem.replace("_", "-") for path in suite("benchmarks").glob("*.yaml"))


def read_benchmark(name: str) -> Benchmark:
    """Read ``benchmarks/<name>.yaml``. Raises DataError for an unknown name, RecipeError for a bad key."""
    path = suite("benchmarks") / f"{name.replace('-', '_')}.yaml"
    if not path.is_file():
        raise DataError(f"no benchmark {name!r}{did_you_mean(name, benchmark_names())}")
    benchmark = typed(Benchmark, read_yaml(path), f"benchmarks/{path.name}")
    if benchmark.name != name:
        raise DataError(f"benchmarks/{path.name}: name: {benchmark.name!r} is asked for as {name!r}; make them agree")
    return benchmark


def fingerprint(problems: Sequence[Problem]) -> str:
    """Return the sha256 of the normalised rows: id, prompt, system, reward and gold of every problem."""
    digest = hashlib.sha256()
    for problem in problems:
        row: Mapping[str, object] = {key: value for key, value in asdict(problem).items() if key != "meta"}
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def verify(benchmark: Benchmark, problems: Sequence[Problem]) -> None:
    """Check count and checksum. Raises DataError; a short or changed data set is never scored."""
    if len(problems) != benchmark.problems:
        raise DataError(f"{benchmark.name}: {len(problems)} problems, its YAML says {benchmark.problems}")
    found = fingerprint(problems)
    if found != benchmark.sha256:
        raise DataError(f"{benchmark.name}: the rows' sha256 is {found}, its YAML says {benchmark.sha256}")
