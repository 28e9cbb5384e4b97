"""Rollouts by vLLM: an engine in a child process on the rank's own GPU, or any number of `vllm serve` replicas.

The only package that imports ``vllm``. Servers that get their weights as files need no vLLM here.
"""

from __future__ import annotations

import os

import torch

from archer.distributed import Ranks
from archer.engines.servers.call import EngineBackend
from archer.engines.servers.client import address
from archer.engines.servers.engine import BackendEngine
from archer.engines.spec import EngineSpec
from archer.engines.vllm.checks import SHAPE, installed_vllm, vocabulary_digest
from archer.engines.vllm.child import ChildBackend, clean
from archer.engines.vllm.command import environment, on_cpu, options, serve_command
from archer.engines.vllm.control import ExpectedServer, ServerControl, check_server
from archer.engines.vllm.fleet import ServerFleet
from archer.engines.vllm.servers import ServersBackend, choose_sync, refuse_unable
from archer.errors import RecipeError


def open_vllm(spec: EngineSpec, ranks: Ranks) -> BackendEngine:
    """Return the vLLM engine with the weights of ``model.path``: servers if the recipe names any, else a child process.

    Raises MissingError without vLLM, UserError for servers of another version or other options, ModelError for another
    model or vocabulary, and EngineError if one does not start or answer.
    """
    model = spec.model
    backend = open_servers(spec, ranks) if spec.rollout.vllm.servers else open_child(spec, ranks)
    return BackendEngine(backend, model.tokenizer, model.prompts, model.stop_ids, model.context, spec.describe())


def open_child(spec: EngineSpec, ranks: Ranks) -> EngineBackend:
    """Start an engine for this rank. Raises RecipeError for sync: nccl, and MissingError without vLLM."""
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


def open_servers(spec: EngineSpec, ranks: Ranks) -> EngineBackend:
    """Connect to the servers that the recipe names. Raises UserError or ModelError for an unsuitable one."""
    model, section = spec.model, spec.rollout.vllm
    text = model.config.get_text_config()
    gpus = [uuid for rank in ranks.gather("GPUs", own_gpu()) for uuid in rank]
    cpu = None if gpus else on_cpu(spec, machine_memory())
    likely = serve_command(spec, "nccl" if gpus else "reload", cpu=cpu)
    expected = ExpectedServer(
        {name: getattr(text, name, None) for name in SHAPE}, vocabulary_digest(model.tokenizer),
        spec.dtype, model.context, str(likely),
    )  # fmt: skip
    fleet = ServerFleet(
        [ServerControl(address(url, "rollout.vllm.servers"), section.seconds) for url in section.servers]
    )
    fleet.each(lambda server: check_server(server, expected))
    sync = choose_sync(section.sync, fleet.servers, gpus)
    refuse_unable(sync, fleet.servers, str(serve_command(spec, sync)))
    room = max(1, spec.rollout.max_concurrency // ranks.world)
    return ServersBackend(fleet, ranks, room, section.seconds, sync, lambda: model.weights_digest)


def machine_memory() -> int:
    """Return the bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def own_gpu() -> list[str]:
    """Return the UUID of this process's GPU, [] without one."""
    if not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)]
