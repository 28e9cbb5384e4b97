"""What a step's rollouts cost as arrays and as tuples of Python numbers: bytes a token, gathering, writing.

    python perf/rollouts.py --record
    python perf/rollouts.py --groups 8        # a smaller step

Two ranks (gloo) hold half of the groups each, gather all, and rank 0 writes the run folder's rollouts and the file of a
checkpoint that has them prefetched. Bytes are the growth of a rank's resident memory, its texts subtracted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from common import keep

from archer.distributed import Ranks, join_ranks
from archer.rollouts.dynamic_sampling import GradedGroup
from archer.runs.checkpoints import write_arrays
from archer.runs.folder import RunWriter
from archer.types import Json, Problem, Rollout, Verdict

PROMPT, LETTERS, PAGE = 128, 4, 4096  # tokens of a prompt, characters of text a token, bytes of a memory page
VERDICT = (1.0, True, "right", "4")


class Numbers(tuple[Any, ...]):
    """A tuple of Python numbers that can be asked for a list, as an array can."""

    def tolist(self) -> list[Any]:
        return list(self)


def main() -> None:
    """Measure both forms, each in two processes of its own; print a table."""
    options = read_options()
    if options.rank is not None:
        on_rank(options)
        return
    measured = [ranks_of(form, options) for form in ("tuples", "arrays")]
    print(f"{options.groups} x {options.samples} x {options.tokens} tokens, 2 ranks")
    names = list(measured[0])[1:]
    print(f"{'':40}{'tuples':>12}{'arrays':>12}")
    for name in names:
        print(f"{name:40}" + "".join(f"{one[name]:12,.2f}" for one in measured))
    if options.record:
        print(f"Record: {keep('rollouts', {'measurements': measured})}")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=64)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--record", action="store_true", help="write leaderboards/perf/")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--form", help=argparse.SUPPRESS)
    return parser.parse_args()


def ranks_of(form: str, options: argparse.Namespace) -> dict[str, Json]:
    """Run two ranks with rollouts of one form; return what rank 0 measured."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    sizes = [f"--{name}={getattr(options, name)}" for name in ("groups", "samples", "tokens")]
    command = [sys.executable, __file__, *sizes, "--form", form, "--rank"]
    world = {**os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [*command, str(rank)], stdout=subprocess.PIPE, text=True,
            env={**world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{form}: a rank failed")
    found: dict[str, Json] = json.loads(said[0])
    return found


def on_rank(options: argparse.Namespace) -> None:
    """Make half of the groups, gather, write; rank 0 prints what it measured."""
    with ExitStack() as stack:
        ranks = join_ranks(600.0, stack)
        found = measure(options, ranks, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        if ranks.main:
            print(json.dumps(found))


def measure(options: argparse.Namespace, ranks: Ranks, folder: Path) -> dict[str, Json]:
    """Return the bytes a token and the seconds of each part."""
    make = arrays if options.form == "arrays" else tuples
    before, places = resident(), range(ranks.rank, options.groups, 2)
    own = [make(place, options) for place in places]
    count = len(places) * options.samples * options.tokens
    held = (resident() - before) / count - LETTERS
    ranks.barrier("made")
    gathered, gather = timed(lambda: ranks.gather("the groups", own))
    groups = [group for part in gathered for group in part]
    found: dict[str, Json] = {"form": options.form, "bytes a token": held, "s to gather": gather}
    if ranks.main:
        graded = [one for group in groups for one in as_graded(group)]
        writer = RunWriter(folder, {})
        _, found["s to write the run's rollouts"] = timed(lambda: writer.write(0, {}, graded))
        writer.close()
        state = {"ahead": [group.state() if isinstance(group, GradedGroup) else group for group in groups]}
        text, found["s to write a checkpoint's"] = timed(lambda: write_arrays(folder, state))
        files = sum(path.stat().st_size for path in folder.glob("*.npz"))
        found["MB of a checkpoint's"] = (len(text) + files) / 1e6
    ranks.barrier("written")
    return found


def columns(place: int, options: argparse.Namespace, sample: int) -> tuple[Any, ...]:
    """Return a sample's prompt, tokens, log-probs, entropies and text, as an engine has them."""
    rng = np.random.default_rng([place, sample])
    tokens = rng.integers(1000, 150_000, options.tokens, dtype=np.int32)
    logps = -rng.random(options.tokens, dtype=np.float32)
    text = rng.integers(97, 123, options.tokens * LETTERS, dtype=np.uint8).tobytes().decode()
    return np.arange(PROMPT, dtype=np.int32), tokens, logps, -logps, text


def arrays(place: int, options: argparse.Namespace) -> GradedGroup:
    """Return a group as it is held now."""
    problem = Problem(str(place), "perf", "", "math", "4")
    drawn = (columns(place, options, sample) for sample in range(options.samples))
    rollouts = [Rollout(problem, sample, *parts, "end") for sample, parts in enumerate(drawn)]
    return GradedGroup.of(place, [(rollout, Verdict(*VERDICT)) for rollout in rollouts])


def tuples(place: int, options: argparse.Namespace) -> tuple[int, list[tuple[Any, ...]]]:
    """Return a group as it was held: plain values."""
    made = []
    for sample in range(options.samples):
        *numbers, text = columns(place, options, sample)
        made.append((sample, *(tuple(column.tolist()) for column in numbers), text, "end", 0, *VERDICT))
    return place, made


def as_graded(group: Any) -> Sequence[tuple[Rollout, Verdict]]:
    """Return a group's rollouts for the run folder; of the old form, with numbers that can be listed."""
    problem = Problem("p", "perf", "", "math", "4")
    if isinstance(group, GradedGroup):
        return group.graded(problem)
    graded = []
    for sample, prompt, tokens, logps, entropies, text, stop, version, *verdict in group[1]:
        listed: list[Any] = [Numbers(column) for column in (prompt, tokens, logps, entropies)]
        graded.append((Rollout(problem, sample, *listed, text, stop, version), Verdict(*verdict)))
    return graded


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what ``work`` returns, and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def resident() -> int:
    """Return the bytes of this process's memory that are in use."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


if __name__ == "__main__":
    main()
