"""Rollouts by vLLM: an engine in a process of ours on the rank's own GPU, or any number of `vllm serve` replicas.

The only door to ``vllm``. Servers that get their weights as files need no vLLM here.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import torch

from archer.distributed import Ranks
from archer.engines.spec import EngineSpec
from archer.engines.vllm.backend import VllmBackend
from archer.engines.vllm.checks import SHAPE, installed_vllm, vocabulary_digest
from archer.engines.vllm.child import ChildBackend, clean
from archer.engines.vllm.command import environment, on_cpu, options, serve_command
from archer.engines.vllm.control import ExpectedServer, ServerControl, greet
from archer.engines.vllm.engine import VllmEngine
from archer.engines.vllm.fleet import ServerFleet
from archer.engines.vllm.servers import ServersBackend, choose, refuse_unable
from archer.errors import RecipeError


def open_vllm(spec: EngineSpec, ranks: Ranks) -> VllmEngine:
    """Return the vLLM engine, started or found, with the weights of ``model.path``.

    Raises MissingError without vLLM, UserError for servers of another version, model or vocabulary, EngineError for
    one that does not start or answer.
    """
    known = spec.model
    host = open_servers(spec, ranks) if spec.rollout.vllm.servers else open_child(spec, ranks)
    return VllmEngine(host, known.tokenizer, known.prompts, known.stop_ids, known.context, spec.describe())


def open_child(spec: EngineSpec, ranks: Ranks) -> VllmBackend:
    """Start an engine for this rank."""
    rollout = spec.rollout
    if rollout.vllm.sync == "nccl":
        raise RecipeError("rollout.vllm.sync: nccl: needs `servers` on other GPUs; leave it out for an engine here")
    installed_vllm()
    reload = rollout.vllm.sync == "reload"
    opening = {
        "options": options(spec), "cpu": on_cpu(spec, machine_memory()), "reload": reload,
        "sleep": not rollout.prefetch,
    }  # fmt: skip
    more = environment(spec.model.section, "reload" if reload else "ipc")
    env = clean(os.environ, ranks.local, torch.get_num_threads(), more)
    name = f"vLLM engine of rank {ranks.rank}"
    return ChildBackend(name, rollout.max_concurrency, rollout.vllm.seconds, env, opening)


def open_servers(spec: EngineSpec, ranks: Ranks) -> VllmBackend:
    """Find the servers that the recipe names. Raises UserError for one that is not as it must be."""
    known, section = spec.model, spec.rollout.vllm
    text = known.config.get_text_config()
    gpus = [uuid for rank in ranks.gather("GPUs", own_gpu()) for uuid in rank]
    cpu = None if gpus else on_cpu(spec, machine_memory())
    likely = serve_command(spec, "nccl" if gpus else "reload", cpu=cpu)
    expected = ExpectedServer(
        {name: getattr(text, name, None) for name in SHAPE}, vocabulary_digest(known.tokenizer),
        spec.dtype, known.context, str(likely),
    )  # fmt: skip
    fleet = ServerFleet([ServerControl(address(url), section.seconds) for url in section.servers])
    fleet.each(lambda server: greet(server, expected))
    sync = choose(section.sync, fleet.servers, gpus)
    refuse_unable(sync, fleet.servers, str(serve_command(spec, sync)))
    room = max(1, spec.rollout.max_concurrency // ranks.world)
    return ServersBackend(fleet, ranks, room, section.seconds, sync, lambda: known.weights_digest)


def machine_memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def own_gpu() -> list[str]:
    """Return the name of this process's GPU, none where it has none."""
    if not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)]


def address(url: str) -> str:
    """Return a server's URL without a path. Raises RecipeError for what is none."""
    parts = urlsplit(url.rstrip("/").removesuffix("/v1"))
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
        raise RecipeError(f"rollout.vllm.servers: {url!r}: expected a URL such as http://node1:8000")
    return f"{parts.scheme}://{parts.netloc}"
