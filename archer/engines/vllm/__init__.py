"""Rollouts by vLLM: an engine in a process of ours on the rank's own GPU, or any number of `vllm serve` replicas.

The only door to ``vllm``. Servers that get their weights as files need no vLLM here.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from archer.distributed import Ranks
from archer.engines.native import context_of, engine_description
from archer.engines.requests import end_ids
from archer.engines.vllm.backend import VllmBackend
from archer.engines.vllm.checks import SHAPE, installed_vllm, vocabulary_digest
from archer.engines.vllm.child import ChildBackend, clean
from archer.engines.vllm.command import environment, on_cpu, options, serve_command
from archer.engines.vllm.control import ExpectedServer, ServerControl, greet
from archer.engines.vllm.engine import VllmEngine
from archer.engines.vllm.fleet import ServerFleet
from archer.engines.vllm.servers import ServersBackend, choose, refuse_unable
from archer.errors import RecipeError
from archer.models.loading import files_digests, folder_of, load_config, weights_digest
from archer.models.prompts import PromptRenderer
from archer.recipe.sections import ModelSection, Recipe


def open_vllm(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, ranks: Ranks) -> VllmEngine:
    """Return the recipe's vLLM engine, started or found, with the weights of ``model.path``.

    Raises MissingError without vLLM, UserError for servers of another version, model or vocabulary, EngineError for
    one that does not start or answer.
    """
    host = open_servers(recipe, tokenizer, ranks) if recipe.rollout.vllm.servers else open_child(recipe, ranks)
    context = context_of(load_config(recipe.model), recipe.model.context)
    description = engine_description(recipe.update.bf16, files_digests(recipe.model), "vllm")
    prompts = PromptRenderer(tokenizer, recipe.model.chat_template_kwargs)
    return VllmEngine(host, tokenizer, prompts, end_tokens(recipe.model, tokenizer), context, description)


def open_child(recipe: Recipe, ranks: Ranks) -> VllmBackend:
    """Start an engine for this rank."""
    if recipe.rollout.vllm.sync == "nccl":
        raise RecipeError("rollout.vllm.sync: nccl: needs `servers` on other GPUs; leave it out for an engine here")
    installed_vllm()
    reload = recipe.rollout.vllm.sync == "reload"
    opening = {
        "options": options(recipe), "cpu": on_cpu(recipe, machine_memory()), "reload": reload,
        "sleep": not recipe.rollout.prefetch,
    }  # fmt: skip
    more = environment(recipe, "reload" if reload else "ipc")
    env = clean(os.environ, ranks.local, torch.get_num_threads(), more)
    name = f"vLLM engine of rank {ranks.rank}"
    return ChildBackend(name, recipe.rollout.max_concurrency, recipe.rollout.vllm.seconds, env, opening)


def open_servers(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, ranks: Ranks) -> VllmBackend:
    """Find the recipe's servers, and refuse what is not as it must be."""
    config, plan = load_config(recipe.model), recipe.rollout.vllm
    text = config.get_text_config()
    gpus = [uuid for rank in ranks.gather("GPUs", own_gpu()) for uuid in rank]
    cpu = None if gpus else on_cpu(recipe, machine_memory())
    likely = serve_command(recipe, "nccl" if gpus else "reload", cpu=cpu)
    expected = ExpectedServer(
        {name: getattr(text, name, None) for name in SHAPE}, vocabulary_digest(tokenizer),
        "bfloat16" if recipe.update.bf16 else "float32", context_of(config, recipe.model.context), str(likely),
    )  # fmt: skip
    fleet = ServerFleet([ServerControl(address(url), plan.seconds) for url in plan.servers])
    fleet.each(lambda server: greet(server, expected))
    sync = choose(plan.sync, fleet.servers, gpus)
    refuse_unable(sync, fleet.servers, str(serve_command(recipe, sync)))
    room = max(1, recipe.rollout.max_concurrency // ranks.world)
    return ServersBackend(fleet, ranks, room, plan.seconds, sync, lambda: weights_digest(recipe.model))


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


def end_tokens(model: ModelSection, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that end a response, without loading the model. Raises ModelError."""
    config = load_config(model)
    try:
        generation = GenerationConfig.from_pretrained(folder_of(model), revision=model.revision)
    except OSError:  # none there
        generation = GenerationConfig.from_model_config(config)
    return end_ids(model.path, generation, config, tokenizer)
