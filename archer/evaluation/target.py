"""Who is evaluated: the model loaded here, a server, or only the samples that one of them left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from archer.engines import open_engine
from archer.engines.base import Generator
from archer.engines.native import engine_description
from archer.engines.recall import StoredGenerator
from archer.errors import DataError, MissingError, ModelError
from archer.models.loading import files_digests, load_tokenizer, weights_digest
from archer.models.prompts import PromptRenderer
from archer.recipe.sections import Recipe
from archer.runs.folder import read_manifest
from archer.types import Json


@dataclass(frozen=True)
class EvalTarget:
    """Who answers, the name of its weights, and what a server said of itself."""

    engine: Generator
    weights: str
    server: Mapping[str, Json] | None = None
    close: Callable[[], None] = lambda: None

    @property
    def doubt(self) -> str:
        """What to say where stored samples are taken for this one's; nothing where they surely are."""
        if self.server is None or self.server["root"]:
            return ""
        return (
            f"{self.server['url']} does not say which weights {self.server['model']!r} are (`root`): stored samples "
            "are taken for theirs; if the server has loaded others since, choose another --out and --store"
        )


def open_target(recipe: Recipe) -> EvalTarget:
    """Return the model loaded here, or the server that the recipe names.

    Raises ModelError where there is no such model, MissingError without a server's client.
    """
    if recipe.evaluate.server:
        return open_server(recipe)
    engine = open_engine(recipe, None, load_tokenizer(recipe.model))
    digest = weights_digest(recipe.model)  # last: what comes from the hub is on disk only then
    return EvalTarget(engine, digest, close=engine.close)


def open_server(recipe: Recipe) -> EvalTarget:
    """Return the server that a recipe names."""
    try:
        from archer.engines.openai import OpenAIGenerator, find_served
    except ImportError as error:
        raise MissingError("evaluate.server: needs `pip install 'archer-rlvr[openai]'`") from error
    served = find_served(recipe.evaluate.server, recipe.model.path)
    return EvalTarget(
        OpenAIGenerator(served, recipe.model.chat_template_kwargs, recipe.rollout.max_concurrency),
        served.weights,
        asdict(served),
    )


def stored_target(recipe: Recipe, out: Path) -> EvalTarget:
    """Return who left the samples of an evaluation, asking no server and loading no weights.

    Raises ModelError where the weights, whose digest names the samples, are not on disk.
    """
    if recipe.evaluate.server:
        return stored_server_target(recipe, out)
    try:
        weights, files = weights_digest(recipe.model), files_digests(recipe.model)
        prompts = PromptRenderer(load_tokenizer(recipe.model), recipe.model.chat_template_kwargs)
    except ModelError as error:
        raise ModelError(f"--regrade: {error}; it needs the model's files on disk, which name the samples") from error
    description = engine_description(recipe.update.bf16, files, recipe.rollout.engine)
    return EvalTarget(StoredGenerator(lambda problem: list(prompts.encode(problem)), description), weights)


def stored_server_target(recipe: Recipe, out: Path) -> EvalTarget:
    """Return what a server was, from the manifest of its evaluation: it need not be there any more."""
    from archer.engines.openai import said

    before = read_manifest(out) or {}
    if not {"weights", "engine", "server"} <= set(before):
        raise DataError(f"--regrade: {out} holds no evaluation of {recipe.model.path}; give its --out")
    engine = StoredGenerator(lambda problem: said(problem, recipe.model.chat_template_kwargs), before["engine"])
    return EvalTarget(engine, before["weights"], before["server"])
