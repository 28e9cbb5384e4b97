"""SGLang as a recipe names it."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import urlsplit

from transformers import PreTrainedModel

from archer.distributed import Ranks
from archer.engines.base import Engine
from archer.engines.kind import EngineChanges, EngineKind, EngineLoad, EngineMemory, ServerStart
from archer.engines.spec import EngineSpec
from archer.errors import EngineError, MissingError, RecipeError
from archer.models.loading import folder_of, model_path
from archer.recipe.sections import ModelSection


def open_sglang(spec: EngineSpec, model: PreTrainedModel | None, ranks: Ranks) -> Engine:
    """Connect to the servers that the recipe names.

    Raises RecipeError if it names none, MissingError without a client for HTTP, EngineError if one does not answer.
    """
    try:
        from archer.engines.servers.client import address
        from archer.engines.servers.engine import BackendEngine
        from archer.engines.sglang.servers import SglangServer, SglangServers
    except ImportError as error:
        raise MissingError(f"rollout.engine: sglang: needs `pip install httpx` ({error})") from error
    section, own = spec.rollout.sglang, spec.model
    if not section.servers:
        raise RecipeError("rollout.sglang.servers: name at least one, such as [http://node1:30000]")
    servers = [SglangServer(address(url, "rollout.sglang.servers"), section.seconds) for url in section.servers]
    room = max(1, spec.rollout.max_concurrency // ranks.world)
    try:
        backend = SglangServers(servers, ranks, room, section.folder, lambda: own_weights(own.section))
    except EngineError as error:
        starts = sglang_launch(spec)
        raise EngineError(f"rollout.sglang.servers: {error}; start it: {starts[0].command}") from error
    return BackendEngine(backend, own.tokenizer, own.prompts, own.stop_ids, own.context, spec.describe())


def own_weights(section: ModelSection) -> str:
    """Return what a server loads the model's weights from. Raises RecipeError for a revision, which it cannot name."""
    folder = folder_of(section)
    if Path(folder).is_dir():
        return str(Path(folder).resolve())
    if section.revision:
        raise RecipeError(f"model.revision: {section.revision}: SGLang reloads no revision; give the snapshot's folder")
    return folder


def sglang_memory(spec: EngineSpec, load: EngineLoad) -> EngineMemory:
    """Return nothing: the servers have GPUs of their own."""
    return EngineMemory((), 0)


def sglang_launch(spec: EngineSpec) -> tuple[ServerStart, ...]:
    """Return the machine and the command of each server in the recipe. Raises ModelError."""
    found = []
    for url in spec.rollout.sglang.servers:
        address = urlsplit(url)
        words = ["python", "-m", "sglang.launch_server", "--model-path", model_path(spec.model.section.path)]
        words += ["--host", "0.0.0.0", "--port", str(address.port or 80), "--dtype", spec.dtype]
        words += ["--max-running-requests", str(spec.rollout.max_concurrency)]
        words += ["--context-length", str(spec.model.context)] if spec.model.context else []
        found.append(ServerStart(address.hostname or url, shlex.join(words)))
    return tuple(found)


SGLANG = EngineKind(
    open_sglang, memory=sglang_memory, launch=sglang_launch, options=False,
    changes=EngineChanges(servers="rollout.sglang.servers"),
)  # fmt: skip
