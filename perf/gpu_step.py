"""RL steps of Qwen2-shaped random models on one GPU: archer beside TRL with HF generate; and the longest response.

    python perf/gpu_step.py --models 0.5B 1.5B --tokens 512 4096 --record
    python perf/gpu_step.py --longest --models 1.5B --record
    python perf/gpu_step.py --small                                # the same on the CPU in miniature; also --longest

Needs no network and no vLLM. All responses have the same number of tokens: random weights end none. A measurement is a
fresh process; one that runs out of memory is recorded as such. Model FLOPs are those of the work itself: prompts once,
nothing recomputed, 2 a weight and token forward and 6 in training; utilisation is their rate over a matmul's, measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from common import keep, peers, spread, table
from models import config, make
from work import Measurement, Work, attempt, seconds, shape

CONTENDERS = ("archer", "trl-tuned", "trl-default")
FULL = ("out of memory", "outofmemoryerror", "can't allocate memory", "cannot allocate memory", "memoryerror",
        "std::bad_alloc", "exit code -9")  # fmt: skip
PROMPT = 16  # tokens of a lab prompt, about


def main() -> None:
    """Measure steps, or search for the longest response; print, keep the record if asked to."""
    options = read_options()
    rows: list[Measurement] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            make(name, Path(folder) / name)
            rows += (longest if options.longest else steps)(options, name, str(Path(folder) / name))
    kind = "longest" if options.longest else "gpu-step"
    record = {
        "models": {name: config(name).to_diff_dict() for name in options.models}, "rounds": options.rounds,
        "peers": peers("trl", "accelerate", "datasets"), "rows": rows,
    }  # fmt: skip
    print(limits(rows) if options.longest else page(rows))
    if options.record:
        print(f"\nRecord: {keep(kind, record)}")


def steps(options: argparse.Namespace, name: str, path: str) -> list[Measurement]:
    """Return measurements of whole steps, contenders in turn within each round."""
    # In a process of its own: this one must hold none of the GPU's memory.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        rows, peak = [], pool.submit(matmul_rate).result()
    for tokens in options.tokens:
        for number in range(options.rounds):
            for contender in options.contenders:
                work = work_of(options, path, tokens, number)
                found, said = attempt(contender, number, work)
                row = {"model": name, "tokens": tokens, "contender": contender, "round": number, "matmul": peak}
                row |= {"work": asdict(work), **(measured(found, name, work, peak) if found else lacking(said))}
                rows.append(row)
                shown = {key: row.get(key) for key in ("model", "tokens", "contender", "seconds", "tokens_per_second",
                                                       "mfu", "lacks")}  # fmt: skip
                print(json.dumps(shown), file=sys.stderr, flush=True)
    return rows


def work_of(options: argparse.Namespace, path: str, tokens: int, seed: int) -> Work:
    """Return the work of one measurement, with each side's settings for a GPU."""
    prompts, group = options.shape
    gpu = torch.cuda.is_available()
    budget = max(options.budget, tokens + 2 * PROMPT)
    ours = [f"update.bf16={json.dumps(gpu)}", f"update.checkpointing={json.dumps(tokens > options.plain)}",
            f"update.micro_batch_tokens={budget}", f"rollout.max_concurrency={options.slots}"]  # fmt: skip
    theirs = {"gradient_checkpointing": tokens > options.plain, **options.trl}
    return Work(
        model=path, prompts=prompts, group=group, updates=min(options.updates, prompts), max_tokens=tokens, seed=seed,
        lengths="fixed", lr=1e-6, steps=options.steps, threads=options.threads, gpu=gpu, changes=ours,
        trl_micro=max(1, budget // (tokens + 2 * PROMPT)), trl=theirs, limit_gib=options.limit_gib,
    )  # fmt: skip


def measured(found: Measurement, name: str, work: Work, peak: float) -> dict[str, Any]:
    """Return a measurement with its tokens a second and the share of the matmul rate that its model FLOPs reach."""
    taken = seconds(found)
    made = work.prompts * work.group * work.max_tokens
    return {
        **found, "step_seconds": [step["seconds"] for step in found["steps"]], "seconds": taken,
        "tokens_per_second": made / taken, "mfu": flops(name, work) / taken / peak,
    }  # fmt: skip


def flops(name: str, work: Work) -> float:
    """Return the FLOPs that a step's sampling, forward and backward need, with nothing done twice."""
    shaped = config(name)
    hidden, mlp = shaped.hidden_size, shaped.intermediate_size
    wide = hidden * shaped.num_key_value_heads // shaped.num_attention_heads
    layer = 2 * hidden * hidden + 2 * hidden * wide + 3 * hidden * mlp
    responses = work.prompts * work.group
    through = work.prompts * PROMPT + responses * work.max_tokens
    weights = shaped.num_hidden_layers * layer * through + hidden * shaped.vocab_size * responses * work.max_tokens
    pairs = responses * work.max_tokens * (PROMPT + work.max_tokens / 2)
    return 8 * weights + 16 * shaped.num_hidden_layers * hidden * pairs  # sampling once, training three times that


def matmul_rate() -> float:
    """Return the FLOPs a second of a large matmul, in bfloat16 on a GPU, in float32 on the CPU."""
    gpu = torch.cuda.is_available()
    side, kind, device = (8192, torch.bfloat16, "cuda") if gpu else (1024, torch.float32, "cpu")
    one = torch.randn(side, side, device=device, dtype=kind)
    taken = []
    for _ in range(10):
        begin = time.perf_counter()
        one @ one
        if gpu:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
    return 2 * side**3 / min(taken)


def longest(options: argparse.Namespace, name: str, path: str) -> list[Measurement]:
    """Return the longest response that each contender trains on: doubled until it fails, then bisected."""
    rows = []
    for contender in options.contenders:
        tried: dict[int, bool] = {}

        def fits(tokens: int, contender: str = contender, tried: dict[int, bool] = tried) -> bool:
            work = work_of(options, path, tokens, 0)
            found, said = attempt(contender, 0, work, "longest")
            if not found:
                lacking(said)  # or else ends the program
            tried[tokens] = bool(found)
            print(json.dumps({"contender": contender, "tokens": tokens, "fits": tried[tokens]}), file=sys.stderr)
            return tried[tokens]

        low, high = 0, options.tokens[0]
        while high <= options.ceiling and fits(high):
            low, high = high, 2 * high
        while low and high <= options.ceiling and high - low > max(256, low // 16):
            middle = (low + high) // 2 // 64 * 64
            low, high = (middle, high) if fits(middle) else (low, middle)
        rows.append({"model": name, "contender": contender, "round": 0, "longest": low, "tried": tried})
    return rows


def lacking(said: str) -> dict[str, Any]:
    """Return that memory was lacking. Exits with what was said where something else went wrong."""
    if not any(words in said.lower() for words in FULL):
        sys.exit(said[-6000:])
    return {"lacks": "memory"}


def page(rows: Sequence[Measurement]) -> str:
    """Return medians over rounds, and the ratio to archer within its round."""
    lines = []
    for model, tokens, contender in dict.fromkeys((row["model"], row["tokens"], row["contender"]) for row in rows):
        same = [row for row in rows if (row["model"], row["tokens"]) == (model, tokens)]
        own = [row for row in same if row["contender"] == contender]
        if any("lacks" in row for row in own):
            lines.append([model, tokens, contender, "out of memory", "", "", ""])
            continue
        ours = {row["round"]: row["seconds"] for row in same if row["contender"] == "archer" and "seconds" in row}
        ratios = [row["seconds"] / ours[row["round"]] for row in own if row["round"] in ours]
        figures = [spread([row[key] for row in own]) for key in ("seconds", "tokens_per_second", "mfu")]
        lines.append([model, tokens, contender, *figures, spread(ratios) if ratios else ""])
    return table(["model", "tokens", "", "s a step", "tokens/s", "share of matmul rate", "archer is faster by"], lines)


def limits(rows: Sequence[Measurement]) -> str:
    """Return the longest response of each."""
    return table(["model", "", "longest response"], [[row["model"], row["contender"], row["longest"]] for row in rows])


def read_options() -> argparse.Namespace:
    """Read the command line; ``--small`` changes what is not given."""
    small = "--small" in sys.argv
    longer = "--longest" in sys.argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--small", action="store_true", help="a tiny model, few tokens: to try the script without a GPU")
    add("--longest", action="store_true", help="search for the longest response that fits, updates alone")
    add("--models", nargs="+", default=["wide"] if small else ["0.5B", "1.5B"])
    add("--tokens", nargs="+", type=int, default=[64] if small else [512] if longer else [512, 4096])
    add("--shape", type=shape, default=(1, 2) if longer else (4, 4) if small else (32, 16), metavar="32x16")
    add("--updates", type=int, default=1 if longer else 2 if small else 4)
    add("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    add("--rounds", type=int, default=1 if small else 3)
    add("--steps", type=int, default=1 if small or longer else 3)
    add("--budget", type=int, default=0 if longer else 16384, help="tokens of a micro-batch, of both")
    add("--plain", type=int, default=0 if longer else 1024, help="tuned: no checkpointing up to so many tokens")
    add("--slots", type=int, default=512, help="rows that archer samples at once")
    add("--ceiling", type=int, default=1024 if small else 2**20, help="tokens at which --longest stops")
    add("--limit-gib", type=float, default=0.0, help="without a GPU: address space of a measurement's process")
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--trl", type=json.loads, default={}, help="tuned TRL: more of GRPOConfig, as JSON")
    add("--record", action="store_true", help="write leaderboards/perf/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
