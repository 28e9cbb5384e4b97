"""What is evaluated: a model loaded here, a server, or only the samples that one of them left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from archer.engines import open_engine
from archer.engines.base import Generator
from archer.engines.spec import EngineSpec
from archer.engines.stored import StoredGenerator
from archer.errors import DataError, MissingError, ModelError
from archer.runs.folder import read_manifest
from archer.types import Json


@dataclass(frozen=True)
class EvalTarget:
    """What generates the samples, the name of its weights, and what a server said of itself."""

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


def open_target(spec: EngineSpec, server: str = "") -> EvalTarget:
    """Return the model, loaded here, or the ``server`` that answers in its place.

    Raises ModelError where there is no such model, MissingError without a server's client.
    """
    if server:
        return open_server(spec, server)
    engine = open_engine(spec)
    digest = spec.model.weights_digest  # last: what comes from the hub is on disk only then
    return EvalTarget(engine, digest, close=engine.close)


def open_server(spec: EngineSpec, server: str) -> EvalTarget:
    """Return what an OpenAI-compatible server serves under the model's name."""
    try:
        from archer.engines.openai import OpenAIGenerator, find_served
    except ImportError as error:
        raise MissingError("evaluate.server: needs `pip install 'archer-rlvr[openai]'`") from error
    section = spec.model.section
    served = find_served(server, section.path)
    generator = OpenAIGenerator(served, section.chat_template_kwargs, spec.rollout.max_concurrency)
    return EvalTarget(generator, served.weights, asdict(served))


def stored_target(spec: EngineSpec, server: str, out: Path) -> EvalTarget:
    """Rebuild from disk what generated the samples of an evaluation, so that they can be graded again.

    Asks no server and loads no weights. Raises ModelError where the weights, whose digest names the samples, are not on
    disk.
    """
    if server:
        return stored_server_target(spec, out)
    try:
        weights, description, prompts = spec.model.weights_digest, spec.describe(), spec.model.prompts
    except ModelError as error:
        raise ModelError(f"--regrade: {error}; it needs the model's files on disk, which name the samples") from error
    return EvalTarget(StoredGenerator(lambda problem: list(prompts.encode(problem)), description), weights)


def stored_server_target(spec: EngineSpec, out: Path) -> EvalTarget:
    """Rebuild from its evaluation's manifest what a server was: it need not be there any more."""
    from archer.engines.openai import said

    section, before = spec.model.section, read_manifest(out) or {}
    if not {"weights", "engine", "server"} <= set(before):
        raise DataError(f"--regrade: {out} holds no evaluation of {section.path}; give its --out")
    engine = StoredGenerator(lambda problem: said(problem, section.chat_template_kwargs), before["engine"])
    return EvalTarget(engine, before["weights"], before["server"])
