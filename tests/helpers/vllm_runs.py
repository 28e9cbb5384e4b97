"""Untrained models in a real vLLM, and how far its log-probs are from theirs. Run by torchrun: ``MODEL OUT``."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from archer.engines.queue import FixedQueue, requests_for
from archer.engines.servers.engine import BackendEngine
from archer.engines.spec import EngineSpec
from archer.engines.vllm import open_vllm
from archer.models.loading import load_model
from archer.problems.lab import TASKS
from archer.recipe.reading import read_recipe
from archer.recipe.sections import Recipe
from archer.tools.lab_tokenizer import build_tokenizer
from archer.tools.pretrain import Pretrain, build_model
from archer.types import Request, Rollout, Sampling

PROBLEMS = [TASKS[name].problem("train", index) for index in range(2) for name in TASKS]


SHORT = Sampling(max_tokens=40)


def recipe(model: Path, *changes: str) -> Recipe:
    return read_recipe("lab", [f"model.path={model}", "rollout.engine=vllm", "rollout.max_concurrency=16", *changes])


def parts(chosen: Recipe) -> tuple[PreTrainedModel, Any]:
    return load_model(chosen.model)


def asks(seed: int, samples: int = 4) -> list[Request]:
    return [request for problem in PROBLEMS for request in requests_for(problem, range(samples), seed)]


def worst(model: PreTrainedModel, rollouts: list[Rollout], temperature: float = 1.0) -> float:
    """The largest difference between the engine's log-probs and a plain forward's."""
    found = 0.0
    for one in rollouts:
        ids = torch.tensor([[*one.prompt_tokens, *one.tokens]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, len(one.prompt_tokens) - 1 : -1] / temperature
        logp_T = torch.log_softmax(logits, -1).gather(1, torch.tensor(one.tokens.tolist())[:, None])[:, 0]
        found = max(found, float((logp_T - torch.tensor(one.logps)).abs().max()))
    return found


def moved(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """The model some way from where it was, as an update leaves it; every weight moves, tied ones too."""
    make = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=make) * 0.05)
    return other


def load(engine: BackendEngine, version: int, model: PreTrainedModel) -> None:
    engine.load(version, lambda: iter(model.named_parameters()))


def untrained(folder: Path, hidden: int) -> Path:
    tokenizer = build_tokenizer()
    size = Pretrain(hidden=hidden, layers=2, heads=1, intermediate=64, seed=7)
    build_model(size, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def on_rank(model_folder: Path, out: Path) -> None:
    """What each of the two ranks does: load moved weights, draw beside the other, gather."""
    from contextlib import ExitStack

    from archer.distributed import join_ranks

    with ExitStack() as stack:
        ranks = join_ranks(120.0, stack)
        chosen = recipe(model_folder)
        model, _ = parts(chosen)
        engine = open_vllm(EngineSpec.of(chosen), ranks)
        stack.callback(engine.close)
        model = moved(model, 1)
        load(engine, 1, model)
        rollouts = list(engine.generate(FixedQueue(asks(2)), SHORT))
        gathered = ranks.gather("ranks", ranks.rank)
        tokens = {(one.problem.id, one.sample): one.tokens.tolist() for one in rollouts}
        torch.save({"worst": worst(model, rollouts), "tokens": tokens, "gathered": gathered}, out / f"{ranks.rank}.pt")


if __name__ == "__main__":
    on_rank(Path(sys.argv[1]), Path(sys.argv[2]))
