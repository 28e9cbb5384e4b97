"""The target of an evaluation: a local model, a server, or only the stored samples of one of them."""

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
    """The generator of the samples, the sha256 or name of its weights, and a server's description of itself."""

    engine: Generator
    weights: str
    server: Mapping[str, Json] | None = None
    close: Callable[[], None] = lambda: None

    @property
    def doubt(self) -> str:
        """The warning to print if stored samples are used; "" if they certainly belong to these weights."""
        if self.server is None or self.server["root"]:
            return ""
        return (
            f"{self.server['url']} does not say which weights {self.server['model']!r} are (`root`): stored samples "
            "are taken for theirs; if the server has loaded others since, choose another --out and --store"
        )


def open_target(spec: EngineSpec, server: str = "") -> EvalTarget:
    """Return the model, loaded in this process, or the ``server`` that has it.

    Raises ModelError if the model does not exist, MissingError if the server's client is not installed.
    """
    if server:
        return open_server(spec, server)
    engine = open_engine(spec)
    digest = spec.model.weights_digest  # after loading, when a hub model is on disk
    return EvalTarget(engine, digest, close=engine.close)


def open_server(spec: EngineSpec, server: str) -> EvalTarget:
    """Return the model of that name on an OpenAI-compatible server. Raises MissingError without its client."""
    try:
        from archer.engines.openai import OpenAIGenerator, find_served
    except ImportError as error:
        raise MissingError("evaluate.server: needs `pip install 'archer-rlvr[openai]'`") from error
    section = spec.model.section
    served = find_served(server, section.path)
    generator = OpenAIGenerator(served, section.chat_template_kwargs, spec.rollout.max_concurrency)
    return EvalTarget(generator, served.weights, asdict(served))


def stored_target(spec: EngineSpec, server: str, out: Path) -> EvalTarget:
    """Rebuild the model identity from disk, so stored samples can be regraded without loading the model.

    Raises ModelError if the weights, whose digest is part of the samples' keys, are not on disk, and DataError if a
    server's evaluation is not in ``out``.
    """
    if server:
        return stored_server_target(spec, out)
    try:
        weights, description, prompts = spec.model.weights_digest, spec.describe(), spec.model.prompts
    except ModelError as error:
        raise ModelError(
            f"--regrade: {error}; it needs the model's files on disk, whose digests are in the samples' keys"
        ) from error
    return EvalTarget(StoredGenerator(lambda problem: list(prompts.encode(problem)), description), weights)


def stored_server_target(spec: EngineSpec, out: Path) -> EvalTarget:
    """Rebuild a server's identity from the manifest of its evaluation. Raises DataError without one."""
    from archer.engines.openai import prompt_record

    section, before = spec.model.section, read_manifest(out) or {}
    if not {"weights", "engine", "server"} <= set(before):
        raise DataError(f"--regrade: {out} holds no evaluation of {section.path}; give its --out")
    engine = StoredGenerator(lambda problem: prompt_record(problem, section.chat_template_kwargs), before["engine"])
    return EvalTarget(engine, before["weights"], before["server"])
