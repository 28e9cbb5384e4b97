"""Decode tokens per second: archer's native engine beside Hugging Face generate and vLLM, on the same work.

    python perf/decode.py --record                                          # lab and 3M models, on the CPU
    python perf/decode.py --vllm-python /path/to/vllm/bin/python --record
    python perf/decode.py --device cuda --record                            # Qwen2 of 0.5B and 1.5B, random weights

Groups of one prompt, every response as long as any: no token ends it, so that a ratio shows the engine and not who
leaves ragged ends. Contenders take turns; README.md says what each does.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from common import keep, peers, spread, table
from decode_contenders import MAKERS, Run, Vllm, Work
from transformers import AutoModelForCausalLM, Qwen2Config
from transformers.utils import logging

from archer.models.loading import model_path

SHAPES = {  # vocabulary, hidden, layers, heads, key-value heads, intermediate
    "3M": (344, 256, 4, 4, 4, 768),
    "3M-wide": (2048, 256, 4, 8, 2, 768),
    "0.5B": (151936, 896, 24, 14, 2, 4864),
    "1.5B": (151936, 1536, 28, 12, 2, 8960),
}
MODELS = {"cpu": ("lab", "3M"), "cuda": ("0.5B", "1.5B")}
BATCHES = {"cpu": (64, 256, 512), "cuda": (64, 512)}
CONTENDERS = {"cpu": ("archer", "hf-dynamic", "hf-static"), "cuda": ("archer", "hf-static", "hf-continuous")}


def main() -> None:
    """Measure in turn, print the tables, keep the record if asked to."""
    options = read_options()
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    rates = measured_rates(options.device)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models or MODELS[options.device]:
            path = saved(name, Path(folder))
            for batch in options.batches or BATCHES[options.device]:
                work = Work(name, batch, options.prompt, options.new, options.device)
                lines.append(compare(work, path, options) | {"floor": floor(work, path, rates)})
                print(page([lines[-1]]), flush=True)
    if options.record:
        record = {
            "rounds": options.rounds, "rates": rates, "lines": lines, "threads": options.threads,
            "peers": peers("torch", "transformers"), "vllm": options.vllm_python is not None,
        }  # fmt: skip
        print(f"Record: {keep('decode', record)}")


def read_options() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--models", nargs="+", choices=("lab", *SHAPES), help="default: lab and 3M; on a GPU 0.5B and 1.5B")
    add("--batches", nargs="+", type=int, help="default: 64, 256 and 512; on a GPU 64 and 512")
    add("--contenders", nargs="+", choices=("archer", "hf-dynamic", "hf-static", "hf-continuous"))
    add("--prompt", type=int, default=32, help="tokens of a prompt")
    add("--new", type=int, default=128, help="tokens of a response")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--vllm-python", help="the interpreter of an environment that has vLLM")
    add("--record", action="store_true", help="write leaderboards/perf/")
    return parser.parse_args()


def saved(name: str, folder: Path) -> Path:
    """Return the folder of a model: the embedded one, or random weights of a shape."""
    if name == "lab":
        return Path(model_path("lab"))
    vocabulary, hidden, layers, heads, groups, intermediate = SHAPES[name]
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=groups, intermediate_size=intermediate, max_position_embeddings=32768,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)
    return folder / name


def compare(work: Work, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return every contender's tokens a second of each round, or why it has none."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).to(work.device).eval()
    runs: dict[str, Run] = {}
    for name in options.contenders or CONTENDERS[work.device]:
        runs[name] = MAKERS[name](work, model)
    vllm = Vllm(work, path, options.vllm_python, options.threads)
    if options.vllm_python:
        runs["vllm"] = vllm.run
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    failed: dict[str, str] = {}
    for number in range(options.rounds + 1):  # the first is not counted: compilers, captures, caches
        for name in [name for name in runs if name not in failed]:
            try:
                start = time.perf_counter()
                made = runs[name]()
                taken = time.perf_counter() - start
                if made != work.batch * work.new:
                    raise RuntimeError(f"{made} tokens, not {work.batch * work.new}")
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                continue
            if number:
                seconds[name].append(taken)
    vllm.close()
    return {"work": asdict(work), "seconds": seconds, "failed": failed, "parameters": model.num_parameters()}


def measured_rates(device: str) -> dict[str, float]:
    """Return what the device does at its best: bytes copied (read and written) and multiply-adds, a second."""
    source = torch.ones(2**26, device=device)
    target, square = torch.empty_like(source), torch.ones(2048, 2048, device=device)
    if device == "cuda":
        square = square.bfloat16()
    copied = best(lambda: target.copy_(source), device)
    return {"bytes": 2 * source.nbytes / copied, "multiplies": 2048**3 / best(lambda: square @ square, device)}


def best(run: Callable[[], object], device: str) -> float:
    """Return the least seconds of some runs."""
    taken = []
    for _ in range(10):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken)


def floor(work: Work, path: Path, rates: dict[str, float]) -> dict[str, float]:
    """Return the least seconds of the decode steps by bytes moved (weights, keys, values) and by multiply-adds."""
    config = json.loads((path / "config.json").read_text())
    layers, hidden, heads = config["num_hidden_layers"], config["hidden_size"], config["num_attention_heads"]
    size = config.get("head_dim") or hidden // heads
    kept = 2 * config["num_key_value_heads"] * size
    layer = hidden * (2 * heads * size + kept) + 3 * hidden * config["intermediate_size"]
    weights = layers * layer + config["vocab_size"] * hidden
    width = torch.finfo(work.dtype).bits // 8
    seen = work.new * (work.prompt + (work.new + 1) / 2)  # positions that one response looks at, all steps together
    moved = width * (work.new * weights + work.batch * layers * kept * (seen + work.new))
    done = work.batch * (work.new * weights + layers * 2 * heads * size * seen)
    return {"bytes": moved / rates["bytes"], "multiplies": done / rates["multiplies"]}


def page(lines: list[dict[str, Any]]) -> str:
    """Return the table: tokens a second, ours over each other in the same round, and how near the floor."""
    rows = []
    for line in lines:
        work, ours = line["work"], line["seconds"].get("archer", [])
        total = work["batch"] * work["new"]
        for name, seconds in line["seconds"].items():
            if name in line["failed"] or not seconds:
                rows.append([work["model"], work["batch"], name, f"failed: {line['failed'].get(name, '')}", "", ""])
                continue
            ratio = str(spread([theirs / own for theirs, own in zip(seconds, ours, strict=False)])) if ours else ""
            nearest = max(line["floor"], key=line["floor"].__getitem__)
            share = f"{line['floor'][nearest] / min(seconds):.0%} of {nearest}"
            rows.append([work["model"], work["batch"], name, spread([total / one for one in seconds]), ratio, share])
    return table(("model", "batch", "contender", "tokens/s", "archer is faster by", "of the roofline"), rows)


if __name__ == "__main__":
    main()
