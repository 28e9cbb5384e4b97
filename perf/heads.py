"""Head forward + backward: seconds, extra memory and errors of ours beside eager torch and our peers' fused heads.

    python perf/heads.py --record                                      # H 896, V 151,936, N 256 and 1,024, float32
    python perf/heads.py --device cuda --record                        # N 2k, 8k, 32k, H 1536, 2048, 4096, bfloat16
    python perf/heads.py --device cuda --small                         # every contender's code, in seconds

N tokens, H hidden size, V vocabulary. A measurement is the forward pass and the backward pass through log-probs and
entropies, to hidden states and weight. Contenders take turns; a ratio is taken within its round.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from common import keep, peers, spread, table
from head_contenders import CONTENDERS, SKIPPED, Head
from head_measures import NAMES, Shape, errors, extra, once, rate

from archer.models.heads import tiles

# Memory that is freed stays with the process, in pages that are there: page faults would be most of what is timed.
TUNABLES = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1000000000000:glibc.malloc.hugetlb=1"


def attempt(found: dict[str, str], name: str, what: Callable[[], object]) -> object:
    """Run one contender's part; what it fails with goes into ``found``, in a line."""
    try:
        return what()
    except Exception as error:  # whatever a peer raises is its line in the record
        found[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error) else ''}"
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None


def measure(shape: Shape, options: argparse.Namespace) -> dict[str, object]:
    """Return what one shape gave."""
    failed: dict[str, str] = {}
    heads, memory, runs = take_turns(shape, options, failed)
    small = replace(shape, tokens=min(shape.tokens, options.exact_tokens))
    found: dict[str, object] = {"tokens": shape.tokens, "hidden": shape.hidden, "vocabulary": shape.vocabulary}
    found |= {"dtype": str(shape.dtype), "matmul rate": rate(shape), "failed": failed, "extra bytes": memory}
    found |= {"runs": runs, "errors": {"tokens": small.tokens, **errors(heads, small)}}
    show(shape, found)
    return found


def take_turns(
    shape: Shape, options: argparse.Namespace, failed: dict[str, str]
) -> tuple[dict[str, Head], dict[str, object], list[dict[str, dict[str, float]]]]:
    """Return the heads that run here, the extra bytes of each, and every round's seconds."""
    inputs = shape.inputs()
    heads, memory = {}, {}
    for name in options.only or [name for name in CONTENDERS if name not in SKIPPED[shape.device]]:
        head = attempt(failed, name, lambda name=name: CONTENDERS[name](shape.device))
        # Twice before anything is measured: kernels are compiled, and memory is at hand.
        if head and attempt(failed, name, lambda head=head: (once(head, inputs), once(head, inputs))):
            heads[name] = head
            memory[name] = attempt(failed, f"{name}'s memory", lambda head=head: extra(head, inputs))
    return heads, memory, [{name: once(head, inputs) for name, head in heads.items()} for _ in range(options.rounds)]


def show(shape: Shape, found: dict[str, object]) -> None:
    """Print a table of one shape, and one of its errors."""
    runs, memory, errors_of = found["runs"], found["extra bytes"], found["errors"]
    print(f"\nN {shape.tokens:,}  H {shape.hidden:,}  V {shape.vocabulary:,}  {shape.dtype}; "
          f"matmul {found['matmul rate'] / 1e12:.3g} TFLOP/s")  # fmt: skip
    rows = []
    for name in runs[0]:
        seconds = spread([run[name]["seconds"] for run in runs])
        over = spread([run[name]["seconds"] / run["archer"]["seconds"] for run in runs]) if "archer" in runs[0] else "-"
        speed = shape.work / seconds.median
        rows.append([
            name, seconds, spread([run[name]["forward"] for run in runs]), over, f"{speed / 1e12:.3g}",
            f"{speed / found['matmul rate']:.0%}", f"{memory[name] / 2**20:,.0f}" if memory[name] is not None else "-",
            int(spread([run[name]["page faults"] for run in runs]).median),
        ])  # fmt: skip
    print(table(("head", "seconds", "forward", "of ours", "TFLOP/s of three products", "of matmul", "extra MiB",
                 "page faults"), rows))  # fmt: skip
    for name, reason in found["failed"].items():
        print(f"{name}: {reason}")
    print(f"greatest errors against float64, {errors_of['tokens']} tokens (relative to the greatest value)")
    print(table(("head", *NAMES), [
        [name, *(f"{one[what]['absolute']:.1e} ({one[what]['relative']:.1e})" if what in one else "-"
                 for what in NAMES)]
        for name, one in errors_of.items() if name != "tokens"
    ]), flush=True)  # fmt: skip


def shapes(options: argparse.Namespace) -> Iterator[Shape]:
    """Return what to measure, the smallest first."""
    gpu = options.device == "cuda"
    sizes = options.hidden or ((1536, 2048, 4096) if gpu else (896,))
    counts = options.tokens or ((2048, 8192, 32768) if gpu else (256, 1024))
    vocabulary = options.vocabulary or 151_936
    if options.small:
        sizes, counts, vocabulary = (64,), (48,), 100_000
    dtype = getattr(torch, options.dtype or ("bfloat16" if gpu else "float32"))
    for hidden in sizes:
        for tokens in counts:
            yield Shape(tokens, hidden, vocabulary, dtype, options.device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tokens", type=int, nargs="+")
    parser.add_argument("--hidden", type=int, nargs="+")
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exact-tokens", type=int, default=64, help="tokens of the comparison with float64")
    parser.add_argument("--only", nargs="+", choices=tuple(CONTENDERS))
    parser.add_argument("--tile", type=int, help="logits of a tile of ours")
    parser.add_argument("--kept", type=int, help="bytes of logits that ours keeps for its backward pass")
    parser.add_argument("--small", action="store_true", help="a shape of seconds, for every contender's code")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.device == "cpu" and os.environ.get("GLIBC_TUNABLES") != TUNABLES:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "GLIBC_TUNABLES": TUNABLES})
    torch.set_num_threads(options.threads)
    tiles.TILE[options.device] = options.tile or tiles.TILE[options.device]
    if options.kept is not None:
        tiles.KEPT_BYTES[options.device] = options.kept
    found = [measure(shape, options) for shape in shapes(options)]
    if options.record:
        cut = {"tile": tiles.TILE[options.device], "narrowest": tiles.NARROWEST[options.device],
               "kept bytes": tiles.KEPT_BYTES[options.device]}  # fmt: skip
        versions = peers("torch", "triton", "trl", "verl", "liger-kernel")
        print(keep("heads", {"options": vars(options), "ours": cut, "peers": versions, "shapes": found}))


if __name__ == "__main__":
    main()
