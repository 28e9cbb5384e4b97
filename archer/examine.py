"""``archer eval``: a model as it is, on the benchmarks of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from archer.engines import open_engine
from archer.errors import MissingError
from archer.evaluate import Examinee, evaluate
from archer.exams import Exam, open_exam
from archer.execution import Sandbox, open_executor
from archer.execution.base import Executor
from archer.execution.limits import default_limits
from archer.grading import Grader
from archer.journal import Journal
from archer.machine import provenance
from archer.policies.load import load_model
from archer.problems import judges_programs
from archer.recipe import Recipe, Source
from archer.result import Result, read_result
from archer.types import Json


@dataclass(frozen=True)
class Exams:
    """What ``archer eval`` asks for: a recipe's model as it is, on the recipe's benchmarks."""

    recipe: Recipe
    label: str
    seed: int
    out: Path
    threads: int = 0
    unisolated: bool = False


def examine(asked: Exams) -> list[Result]:
    """Evaluate and write ``out/results/``; benchmarks that this very evaluation finished before are not redone.

    Raises RunFolderError when ``out`` holds the evaluation of another model, label or seed.
    """
    recipe = asked.recipe
    with ExitStack() as stack:
        if asked.threads:
            torch.set_num_threads(asked.threads)
        exams = open_exams(recipe)
        executor = open_sandbox(recipe, [exam.benchmark.data for exam in exams], asked.unisolated, stack)
        model, tokenizer = load_model(recipe.model)
        engine = open_engine(recipe, model, tokenizer)
        grader = stack.enter_context(Grader(recipe.reward.workers, recipe.reward.seconds, executor))
        manifest = {
            "recipe_digest": recipe.digest(), "algorithm": asked.label, "seed": asked.seed,
            "threads": torch.get_num_threads(), **origin(recipe, executor),
        }  # fmt: skip
        journal = Journal(asked.out, manifest)
        stack.callback(journal.close)
        for exam in exams:
            if not journal.has(exam.benchmark.name):
                who = Examinee(asked.label, asked.seed, 0, origin(recipe, executor))
                journal.result(evaluate(engine, grader, exam, who), final=True)
        return [read_result(journal.final(exam.benchmark.name)) for exam in exams]


def open_exams(recipe: Recipe) -> list[Exam]:
    """Load the recipe's benchmarks, checked."""
    return [open_exam(name, recipe.evaluate.samples) for name in recipe.evaluate.benchmarks]


def open_sandbox(recipe: Recipe, sources: Sequence[Source], unisolated: bool, stack: ExitStack) -> Executor | None:
    """Start the executor if any source judges programs; ``unisolated`` accepts one that isolates nothing.

    Raises MissingError where the recipe's sandbox cannot start and that was not accepted.
    """
    if not any(judges_programs(source) for source in sources):
        return None
    reward = recipe.reward
    sandbox = Sandbox(reward.sandbox, reward.workers, reward.engines, unisolated)
    try:
        executor = open_executor(sandbox)
    except MissingError:
        if not unisolated:
            raise
        executor = open_executor(replace(sandbox, executor="process"))
    stack.callback(executor.close)
    return executor


def origin(recipe: Recipe, executor: Executor | None) -> dict[str, Json]:
    """Return what goes into every result: the model, the recipe's fingerprint, commit, versions, machine, sandbox."""
    own = {"model": asdict(recipe.model), "recipe_digest": recipe.digest()}
    return {**own, "sandbox": where_programs_ran(executor), **provenance()}


def where_programs_ran(executor: Executor | None) -> dict[str, Json] | None:
    """Return what verdicts on programs depend on: the executor used, its Python, the limits."""
    if executor is None:
        return None
    return {"executor": executor.name, "python": executor.python, "limits": asdict(default_limits())}
