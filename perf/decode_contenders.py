"""The contenders of perf/decode.py: each decodes the same prompts when it is called."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel

from archer.engines.native import NativeEngine
from archer.engines.queue import FixedQueue, requests_for
from archer.models.loading import model_path
from archer.types import Problem, Sampling

HERE = Path(__file__).resolve().parent
GROUP = 16
Run = Callable[[], int]  # decodes the whole work, returns the tokens made


@dataclass(frozen=True)
class Work:
    """``batch`` responses of ``new`` tokens, each group of prompts ``prompt`` tokens long."""

    model: str
    batch: int
    prompt: int
    new: int
    device: str

    @property
    def dtype(self) -> torch.dtype:
        """Return the arithmetic of every contender."""
        return torch.bfloat16 if self.device == "cuda" else torch.float32

    def prompts(self) -> list[list[int]]:
        """Return every row's prompt: ids that any of the models knows, a group's all the same."""
        group = min(GROUP, self.batch)
        return [
            [(7 * place + 13 * (row // group)) % 300 + 1 for place in range(self.prompt)] for row in range(self.batch)
        ]


@dataclass(frozen=True)
class Given:
    """Prompts that come as ids, under the number that is the problem's name."""

    prompts: list[list[int]]

    def encode(self, problem: Problem) -> tuple[int, ...]:
        """Return the prompt's token ids."""
        return tuple(self.prompts[int(problem.id)])


def archer(work: Work, model: PreTrainedModel) -> Run:
    """Return our run: log-probs, entropies and texts come with the tokens."""
    prompts, group = work.prompts(), min(GROUP, work.batch)
    tokenizer = AutoTokenizer.from_pretrained(model_path("lab"))
    autocast = work.dtype if work.dtype != torch.float32 else None
    engine = NativeEngine(model, tokenizer, Given(prompts[::group]), work.batch, autocast)
    engine.stops = (-1,)  # what no model says
    problems = [Problem(str(number), "perf", "", "math", "") for number in range(work.batch // group)]
    asks = [request for problem in problems for request in requests_for(problem, range(group), 0)]
    sampling = Sampling(max_tokens=work.new)
    return lambda: sum(len(rollout.tokens) for rollout in engine.generate(FixedQueue(asks), sampling))


def settings(work: Work, **more: Any) -> GenerationConfig:
    """Return what Hugging Face generate is told: plain sampling, and an end token that no model says.

    Told of none it would take the model's own.
    """
    return GenerationConfig(
        max_new_tokens=work.new, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=-1,
        pad_token_id=0, **more,
    )  # fmt: skip


def generated(work: Work, model: PreTrainedModel, config: GenerationConfig) -> Run:
    """Return a run of Hugging Face generate; its weights in the arithmetic's dtype, as its users have them."""
    narrow = model if work.dtype == torch.float32 else AutoModelForCausalLM.from_config(model.config, dtype=work.dtype)
    if narrow is not model:
        narrow.load_state_dict(model.state_dict())
        narrow.to(work.device).eval()
    token_ST = torch.tensor(work.prompts(), device=work.device)

    @torch.inference_mode()
    def run() -> int:
        out_ST: Tensor = narrow.generate(
            input_ids=token_ST, attention_mask=torch.ones_like(token_ST), generation_config=config
        )
        return int(out_ST[:, work.prompt :].cpu().numel())

    return run


def dynamic(work: Work, model: PreTrainedModel) -> Run:
    """Return generate with the cache that grows."""
    return generated(work, model, settings(work))


def static(work: Work, model: PreTrainedModel) -> Run:
    """Return generate with the static cache: compiled on a GPU, as it is by default there."""
    return generated(work, model, settings(work, cache_implementation="static", disable_compile=work.device == "cpu"))


def continuous(work: Work, model: PreTrainedModel) -> Run:
    """Return generate_batch: continuous batching, whose manager and graphs stay for the next round."""
    narrow = AutoModelForCausalLM.from_config(model.config, dtype=work.dtype, attn_implementation="sdpa")
    narrow.load_state_dict(model.state_dict())
    narrow.to(work.device).eval()

    def run() -> int:
        found = narrow.generate_batch(inputs=work.prompts(), generation_config=settings(work), persistent_manager=True)
        return sum(len(one.generated_tokens) for one in found.values())

    return run


class Vllm:
    """vLLM in a process of its own interpreter, which stays up for all rounds."""

    def __init__(self, work: Work, path: Path, python: str | None, threads: int) -> None:
        self.task = {
            "model": str(path), "prompts": work.prompts(), "new": work.new, "width": work.prompt + work.new,
            "dtype": str(work.dtype).removeprefix("torch."),
        }  # fmt: skip
        self.command = [str(python), str(HERE / "decode_vllm.py")]
        self.environment = os.environ | {
            "VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR",
        }  # fmt: skip
        self.process: subprocess.Popen[str] | None = None

    def run(self) -> int:
        """Decode once; the first time vLLM starts before."""
        if self.process is None:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            self.say(json.dumps(self.task))
        return int(self.say("go"))

    def say(self, line: str) -> str:
        """Send a line, return the answer. Raises RuntimeError where the process has ended."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        for answer in self.process.stdout:
            if answer.startswith("decoded "):
                return answer.split()[1]
        raise RuntimeError(f"vLLM ended with exit code {self.process.wait()}; its messages are above")

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


MAKERS = {"archer": archer, "hf-dynamic": dynamic, "hf-static": static, "hf-continuous": continuous}
