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

SHOTS_SEED = 1234  # lm-eval's default, so that few-shot examples are those of published numbers


@dataclass(frozen=True)
class LmEvalOptions:
    """How tasks are run. ``chat``: use the model's chat template; None: if a task asks for it (Archer's tasks do).

    lm-eval's own tasks, and the numbers published with them, use none unless stated. ``truncate`` lets prompts that are
    too long lose their beginning. ``shots`` replaces the tasks' number of few-shot examples. ``data`` gives local
    copies of data sets by benchmark of Archer. ``threads`` of the CPU (0: torch's default).
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

    Each report is also written to ``out/lm-eval/<task>.json``. ``include`` is a folder of further task YAMLs; ``limit``
    keeps only the first documents. No global random state is reseeded. Responses are stored in ``out/lm-eval``, where
    an interrupted evaluation continues.

    Raises MissingError without lm-eval, UserError for an unknown task, DataError for a data set that cannot be fetched
    and for a prompt that does not fit, and ArcherError if an engine, the sandbox or the grader fails: never a score.
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
        for name, loaded in opened.items():
            before = responses.found
            report = {**evaluate(lm, loaded, limit, how), "model": {**asdict(recipe.model), **owner}, "seed": seed,
                      "kept_responses": responses.found - before, "provenance": origin()}  # fmt: skip
            reports[name] = report
            write(out / "lm-eval" / f"{name}.json", report)
    return {"tasks": reports, "table": table(reports)}


def open_tasks(recipe: Recipe, tasks: Sequence[str], include: Path | None, how: LmEvalOptions) -> dict[str, TaskDict]:
    """Open all tasks, with their examples and samples set, before the first one runs."""
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
    for loaded in opened.values():
        prepare(loaded, how.shots, recipe.evaluate.samples)
    refuse_unused(copies, opened)
    return opened


def refuse_unused(copies: Collection[str], opened: Mapping[str, TaskDict]) -> None:
    """Raise UserError for a copy of a data set that no task uses."""
    tasks = [task for loaded in opened.values() for task in loaded["tasks"].values()]
    used = {(task.get_config("dataset_kwargs") or {}).get("benchmark") for task in tasks}
    for name in copies:
        if name not in used:
            raise UserError(
                f"--data {name}: none of the tasks is of that benchmark; leave it out, or ask for archer_{name}"
            )


def build_lm(
    recipe: Recipe, model: Any, tokenizer: Any, responses: ResponseCache, how: LmEvalOptions, seed: int
) -> ArcherLM:
    """Return the recipe's model and engine as a language model of lm-eval."""
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
            tokenizer,
            texts,
            scorer,
            responses,
            window,
            recipe.model.chat_template_kwargs,
            recipe.evaluate.sampling.given,
        )
    )


def evaluate(lm: ArcherLM, opened: TaskDict, limit: int | None, how: LmEvalOptions) -> dict[str, Json]:
    """Run lm-eval on one task, group or tag; return its report."""
    from lm_eval import evaluate as run

    from archer.evaluation.lm_eval.tasks import benchmark_of

    chat = chat_of(opened) if how.chat is None else how.chat
    lm.answered.clear()
    lm.parts.window.cut.clear()
    results = run(lm, opened, limit=limit, apply_chat_template=chat, fewshot_as_multiturn=chat)
    by_task = {name: benchmark_of(task.eval_docs[0]) for name, task in opened["tasks"].items()}
    return {
        "limit": limit, "shots_seed": SHOTS_SEED,
        "benchmarks": {name: facts for name, facts in by_task.items() if facts},
        **report_of(lm, results, chat),
    }  # fmt: skip


def prepare(opened: TaskDict, shots: int | None, samples: int | None) -> None:
    """Set the number of few-shot examples, and K for tasks that have one (``metadata: {k: 64}``).

    As in lm-eval, a task that says 0 examples keeps to it. Examples are drawn with a generator of each task's own, so
    the global random state does not change.
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
    """Return whether tasks ask for a chat template (``metadata: {chat: true}``). Raises UserError if only some do."""
    wishes = {bool(metadata(task).get("chat")) for task in opened["tasks"].values()}
    if len(wishes) > 1:
        raise UserError("some tasks of the group ask for the chat template and some do not; say --chat or --no-chat")
    return wishes.pop()


def metadata(task: Any) -> Mapping[str, Json]:
    """Return the ``metadata`` of a task's YAML."""
    return task.get_config("metadata") or {}
