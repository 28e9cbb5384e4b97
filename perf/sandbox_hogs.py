"""How long an honest program waits while hogs are queued: programs that use up their time and ask for a second chance.

    python perf/sandbox_hogs.py --hogs 1000 --wall 0.3
    python perf/sandbox_hogs.py --hogs 16 --wall 18 --kind starved     # with the real limits

One batch holds all hogs; honest programs come one at a time beside it, as a trainer hands them in while others are
still sampled. One waits as long as the hogs before it in the queue take, four for each worker, and for lone runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections import Counter
from dataclasses import asdict

import numpy as np

from archer.sandbox import Sandbox
from archer.sandbox.base import Executor, Limits, ProgramJob, Stdin, in_order
from archer.tools.attacks.bench import HONEST, SUM, opened

# Its own processes keep it from a core.
STARVED = """
import os, time
def burn():
    while time.process_time() < CPU / 18: pass
for _ in range(14):
    if os.fork() == 0:
        burn()
        os._exit(0)
burn()
time.sleep(1000)
"""
# What each does with its time; all but the first make it look as if the machine were at fault.
HOGS = {
    "sleep": "import time\ntime.sleep(1000)",
    "starved": STARVED,
    "killed": "import os, random, time\nif random.random() < 0.5: os.kill(os.getpid(), 9)\ntime.sleep(1000)",
    "violation": "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(1000)",
}  # fmt: skip


def main() -> None:
    """Measure each kind of hog and print a line of JSON for each."""
    options = read_options()
    for kind in options.kind or HOGS:
        print(json.dumps(measured(kind, options)), flush=True)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executor", default="bubblewrap")
    parser.add_argument("--docker-host", action="append", default=[])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--hogs", type=int, default=1000)
    parser.add_argument("--wall", type=float, default=0.3, help="limit on elapsed seconds; a third of it on CPU time")
    parser.add_argument("--kind", action="append", choices=list(HOGS))
    return parser.parse_args()


def measured(kind: str, options: argparse.Namespace) -> dict[str, object]:
    """Run the hogs of one kind with honest programs beside them; return the seconds that those waited."""
    limits = Limits(cpu_seconds=options.wall / 3, wall_seconds=options.wall)
    program = HOGS[kind].replace("CPU", str(limits.cpu_seconds))
    hog = ProgramJob(program, in_order(Stdin("")), limits)
    honest = ProgramJob(HONEST, in_order(SUM), Limits())
    waits, right, over = list[float](), Counter[bool](), threading.Event()

    def beside(executor: Executor) -> None:
        while not over.wait(0.02):
            begin = time.perf_counter()
            [(_, outcome)] = executor.execute([honest])
            waits.append(time.perf_counter() - begin)
            right[outcome.runs[0].stdout == "7\n"] += 1

    with opened(Sandbox(options.executor, options.workers, tuple(options.docker_host))) as executor:
        list(executor.execute([honest] * 4 * options.workers))  # warm
        thread = threading.Thread(target=beside, args=(executor,))
        thread.start()
        begin = time.perf_counter()
        ends = Counter(outcome.runs[0].status for _, outcome in executor.execute([hog] * options.hogs))
        seconds = time.perf_counter() - begin
        over.set()
        thread.join()
    shares = dict(zip(("p50", "p99", "max"), np.quantile(waits, (0.5, 0.99, 1.0)).round(2).tolist(), strict=True))
    return {
        "kind": kind, "hogs": options.hogs, "limits": asdict(limits), "ends": ends, "seconds": round(seconds, 1),
        "alone": round(options.hogs * options.wall / options.workers, 1), "honest": len(waits), "wrong": right[False],
        "mean": round(statistics.mean(waits), 2), **shares,
    }  # fmt: skip


if __name__ == "__main__":
    main()
