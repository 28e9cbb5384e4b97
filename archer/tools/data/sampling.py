"""Ask a model for samples of candidates, a few hundred candidates at a time, with the same code as evaluations.

Every chunk has a sample store, so that an interrupted step loses only the samples under way, and a file of its verdicts
once all are in, so that it is not graded again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from archer.engines.spec import EngineSpec
from archer.errors import ModelError, RunFolderError
from archer.evaluation.benchmark import Benchmark, fingerprint
from archer.evaluation.evaluate import EvalWatcher, ModelUnderTest, evaluate
from archer.evaluation.loaded import LoadedBenchmark
from archer.evaluation.target import EvalTarget, open_target
from archer.recipe.sections import DataSource, Recipe
from archer.rewards import find_reward
from archer.rewards.grading import Grader
from archer.rewards.opening import open_grader
from archer.runs.samples import SampleStore
from archer.system import provenance, write_aside
from archer.types import Json, Problem, Sampling


@dataclass(frozen=True)
class FilterModel:
    """A model, or the server that serves it, and what runs and grades it. ``label`` names it in errors."""

    label: str
    recipe: Recipe
    reward: str
    seed: int
    unisolated: bool
    watch: EvalWatcher

    @cached_property
    def spec(self) -> EngineSpec:
        """The spec from which the engine is opened."""
        return EngineSpec.of(self.recipe)

    @property
    def model(self) -> str:
        """The model's path as given."""
        return self.recipe.model.path

    def identity(self) -> Json:
        """Return what samples and verdicts depend on; weights that are on disk are not loaded."""
        recipe = self.recipe
        rules = {"seed": self.seed, "rules": getattr(find_reward(self.reward), "rules", 1)}
        if recipe.evaluate.server:
            subject = open_target(self.spec, recipe.evaluate.server)
            return {**rules, "weights": subject.weights, "engine": dict(subject.engine.describe())}
        try:
            weights = self.spec.model.weights_digest
        except ModelError:  # from the hub, not downloaded yet
            with closing(open_target(self.spec)) as subject:
                weights = subject.weights
        return {**rules, "weights": weights, "engine": self.spec.describe()}

    def tokenizer(self) -> Json:
        """Return the model and the digests of its files, on which the count of tokens depends. Raises ModelError."""
        _ = self.spec.model.tokenizer  # first, because this downloads the files of a hub model
        return {"model": self.model, "files": dict(self.spec.model.digests)}

    @contextmanager
    def open(self, samples: int, sampling: Sampling, folder: Path) -> Iterator[OpenFilterModel]:
        """Open model, sandbox and grader; samples and verdicts go into ``folder``. Raises ModelError, MissingError."""
        recipe = self.recipe
        with ExitStack() as stack:
            grader = open_grader(recipe.reward, [self.reward], self.unisolated, stack)
            subject = stack.enter_context(closing(open_target(self.spec, recipe.evaluate.server)))
            room = None if recipe.evaluate.server else self.spec.model.context
            yield OpenFilterModel(self, subject, grader, samples, sampling, folder, room)


@dataclass(frozen=True)
class OpenFilterModel:
    """An open model. ``room``: tokens that prompt and response may have; None if only its server knows."""

    sampler: FilterModel
    subject: EvalTarget
    grader: Grader
    samples: int
    sampling: Sampling
    folder: Path
    room: int | None

    def fits(self, problem: Problem) -> bool:
        """Return whether a problem's prompt leaves room for the longest response."""
        if self.room is None:
            return True
        prompt = self.subject.engine.prompt(problem)
        return len(prompt) + self.sampling.max_tokens <= self.room

    def __call__(self, number: int, problems: Sequence[Problem]) -> dict[str, int]:
        """Return the number of right samples by id, of chunk ``number``: from its file, or drawn and graded now.

        Raises EngineError, SandboxError and GraderError, which are no verdicts on problems, and RunFolderError.
        """
        if not problems:
            return {}
        path = self.folder / f"{number:05d}.json"
        if path.is_file():
            return self._before(path, problems)
        name = f"{self.sampler.label} {number + 1}"
        benchmark = Benchmark(
            name=name, title=name, data=DataSource(name, reward=self.sampler.reward), problems=len(problems),
            sha256=fingerprint(problems), samples=self.samples, licence="", source="", sampling=self.sampling,
        )  # fmt: skip
        made = {**provenance(), "engine": dict(self.subject.engine.describe()), "server": self.subject.server}
        from_where = {"model": self.sampler.model}
        subject = self.subject
        who = ModelUnderTest(self.sampler.label, self.sampler.seed, 0, from_where, subject.weights, subject.doubt)
        with SampleStore(path.with_suffix(".jsonl"), made) as store:
            loaded = LoadedBenchmark(benchmark, tuple(problems))
            result = evaluate(self.subject.engine, self.grader, loaded, who, store, self.sampler.watch)
        right = dict(zip(result.problems, map(sum, result.passed), strict=True))
        write_aside(path, json.dumps(right, indent=0) + "\n")
        return right

    def facts(self) -> dict[str, Json]:
        """Return which model answered, with what settings, and which verifier graded."""
        return {
            "model": self.sampler.model, "weights": self.subject.weights, "server": self.subject.server,
            "engine": dict(self.subject.engine.describe()), "seed": self.sampler.seed, "samples": self.samples,
            "sampling": asdict(self.sampling), "verifier": self.grader.versions([self.sampler.reward]),
        }  # fmt: skip

    def _before(self, path: Path, problems: Sequence[Problem]) -> dict[str, int]:
        try:
            right: dict[str, int] = json.loads(path.read_text(encoding="ascii"))
        except ValueError as error:
            raise RunFolderError(
                f"{path}: damaged ({error}); delete it, its stored samples are graded again"
            ) from error
        if list(right) != [problem.id for problem in problems]:
            raise RunFolderError(f"{path}: holds verdicts on other problems; delete the folder {path.parent}")
        return right
