"""``archer lm-eval``: any task of lm-eval on our engines, with every outcome written down."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from archer.engines.native import NativeEngine
from archer.engines.scoring import LikelihoodScorer
from archer.errors import MissingError, UserError
from archer.evaluation.lm_eval.report import origin, report_of, table, write
from archer.evaluation.lm_eval.responses import ResponseCache
from archer.evaluation.lm_eval.texts import EncodedPrompts, TextGenerator
from archer.evaluation.lm_eval.window import ContextWindow
from archer.models.spec import ModelSpec
from archer.recipe.sections import Recipe
from archer.types import Json

if TYPE_CHECKING:
    from lm_eval.tasks.manager import TaskDict

    from archer.evaluation.lm_eval.lm import ArcherLM

SHOTS_SEED = 1234  # lm-eval's own, so that few-shot examples are those of everybody's numbers


@dataclass(frozen=True)
class LmEvalOptions:
    """How tasks are asked. ``chat``: through the model's chat template; None: where a task says so (ours do).

    lm-eval's own tasks, and the numbers published with them, are without one unless stated. ``truncate`` lets
    prompts that are too long lose their beginning. ``shots`` replaces the tasks' own number of examples. ``data``
    gives copies of data sets by the name of a benchmark of ours. ``threads`` of the CPU (0: torch's own choice).
    """

    chat: bool | None = None
    truncate: bool = False
    shots: int | None = None
    data: Mapping[str, Path] = field(default_factory=dict)
    threads: int = 0


def run_lm_eval(
    recipe: Recipe, tasks: Sequence[str], out: Path, include: Path | None = None, limit: int | None = None,
    seed: int = 0, how: LmEvalOptions = LmEvalOptions(),
) -> Mapping[str, Json]:  # fmt: skip
    """Evaluate the recipe's model on tasks of lm-eval; return ``tasks``, the reports by name, and ``table``.

    A report is also written to ``out/lm-eval/<task>.json``.
    ``include`` is a folder of more task YAMLs, ``limit`` takes the first documents alone. No global random
    state is reseeded. Responses are kept in ``out/lm-eval``: an evaluation that was cut off goes on there.

    Raises MissingError without lm-eval, UserError for an unknown task, DataError for a data set that is not to
    be had and for a prompt that does not fit, and OurError when something of ours broke: never a score.
    """
    if limit is not None and limit < 1:
        raise UserError(f"archer lm-eval: a limit of {limit} documents; give 1 or more")
    if how.threads:
        torch.set_num_threads(how.threads)
    opened = open_tasks(recipe, tasks, include, how)
    spec = ModelSpec(recipe.model)
    model, tokenizer = spec.load(), spec.tokenizer
    owner = {"weights": spec.weights_digest, "bf16": recipe.update.bf16, "files": spec.digests}
    reports = {}
    with ResponseCache(out / "lm-eval" / "responses.sqlite", owner) as responses:
        lm = build_lm(recipe, model, tokenizer, responses, how, seed)
        for name, one in opened.items():
            before = responses.found
            report = {**evaluate(lm, one, limit, how), "model": {**asdict(recipe.model), **owner}, "seed": seed,
                      "kept_responses": responses.found - before, "provenance": origin()}  # fmt: skip
            reports[name] = report
            write(out / "lm-eval" / f"{name}.json", report)
    return {"tasks": reports, "table": table(reports)}


def open_tasks(recipe: Recipe, tasks: Sequence[str], include: Path | None, how: LmEvalOptions) -> dict[str, TaskDict]:
    """Open all tasks before any is run, each with its examples and samples set."""
    try:
        from archer.evaluation.lm_eval.catalogue import open_catalogue, open_task
    except ImportError as error:
        raise MissingError(f"archer lm-eval needs `pip install 'archer-rlvr[lm-eval]'` ({error})") from error
    if not tasks:
        raise UserError("archer lm-eval: name at least one task; `lm_eval ls tasks` lists them")
    if recipe.evaluate.server:
        raise UserError(
            f"archer lm-eval: {recipe.evaluate.server} answers for the model, but texts are scored by a model loaded "
            "here; leave evaluate.server out, or use lm-eval's own local-completions"
        )
    copies = {name: str(path) for name, path in how.data.items()}
    catalogue = open_catalogue(tasks, include, {"sandbox": recipe.reward.sandbox, "data": copies})
    opened = {name: open_task(catalogue, name) for name in dict.fromkeys(tasks)}
    for one in opened.values():
        prepare(one, how.shots, recipe.evaluate.samples)
    refuse_unused(copies, opened)
    return opened


def refuse_unused(copies: Collection[str], opened: Mapping[str, TaskDict]) -> None:
    """Raise UserError for a copy of a data set that no task asks for."""
    every = [task for one in opened.values() for task in one["tasks"].values()]
    asked = {(task.get_config("dataset_kwargs") or {}).get("benchmark") for task in every}
    for name in copies:
        if name not in asked:
            raise UserError(
                f"--data {name}: none of the tasks is of that benchmark; leave it out, or ask for archer_{name}"
            )


def build_lm(
    recipe: Recipe, model: Any, tokenizer: Any, responses: ResponseCache, how: LmEvalOptions, seed: int
) -> ArcherLM:
    """Return the recipe's model and engine as lm-eval's."""
    from archer.evaluation.lm_eval.lm import ArcherLM, LmParts

    autocast = torch.bfloat16 if recipe.update.bf16 else None
    engine = NativeEngine(
        model, tokenizer, EncodedPrompts(), recipe.rollout.max_concurrency, autocast, recipe.model.context
    )
    texts = TextGenerator(
        engine, lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)), responses, seed
    )
    window = ContextWindow(engine.context or tokenizer.model_max_length, how.truncate)
    scorer = LikelihoodScorer(model, autocast=autocast)
    return ArcherLM(
        LmParts(
            tokenizer, texts, scorer, responses, window, recipe.model.chat_template_kwargs, recipe.evaluate.sampling
        )
    )


def evaluate(lm: ArcherLM, opened: TaskDict, limit: int | None, how: LmEvalOptions) -> dict[str, Json]:
    """Run lm-eval over one task, group or tag; return its report."""
    from lm_eval import evaluate as run

    from archer.evaluation.lm_eval.tasks import benchmark_of

    chat = chat_of(opened) if how.chat is None else how.chat
    lm.answered.clear()
    lm.parts.window.cut.clear()
    found = run(lm, opened, limit=limit, apply_chat_template=chat, fewshot_as_multiturn=chat)
    ours = {name: benchmark_of(task.eval_docs[0]) for name, task in opened["tasks"].items()}
    return {
        "limit": limit, "shots_seed": SHOTS_SEED, "benchmarks": {name: one for name, one in ours.items() if one},
        **report_of(lm, found, chat),
    }  # fmt: skip


def prepare(opened: TaskDict, shots: int | None, samples: int | None) -> None:
    """Set the number of examples, and K for tasks that have one (``metadata: {k: 64}``); others draw as they do.

    As in lm-eval, a task that says 0 examples keeps to it. The global random state is left alone: examples are
    drawn with a generator of each task's own.
    """
    for task in opened["tasks"].values():
        own = task.get_config("num_fewshot")
        if own is None or (own and shots is not None):
            task.set_config("num_fewshot", shots or 0)
        task.set_fewshot_seed(SHOTS_SEED)
        if samples and metadata(task).get("k"):
            task.set_config("repeats", samples)
            task.set_config("task_alias", f"{task.get_config('dataset_kwargs')['benchmark']} (k={samples})")


def chat_of(opened: TaskDict) -> bool:
    """Say whether the tasks ask for the chat template (``metadata: {chat: true}``). Raises UserError if only some."""
    wishes = {bool(metadata(task).get("chat")) for task in opened["tasks"].values()}
    if len(wishes) > 1:
        raise UserError("some tasks of the group ask for the chat template and some do not; say --chat or --no-chat")
    return wishes.pop()


def metadata(task: Any) -> Mapping[str, Json]:
    """Return what a task's YAML says of it."""
    return task.get_config("metadata") or {}
