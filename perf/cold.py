"""From nothing: seconds to import, and from a cold process to its first optimizer step, archer beside TRL.

    python perf/cold.py --rounds 7 --record

Fresh processes in turn. A first step is that of ``archer train`` with the lab recipe (no evaluation), beside
GRPOTrainer on the work that perf/trl_step.py gives it; the moment counted is the end of the first optimizer update.
TRL's process imports nothing of archer: prompts, answers and settings come ready, and its reward only compares texts.
A round that is not counted reads the files into the system's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from typing import Any

from common import keep, peers, spread, table
from trl_contender import talk, trl_settings
from work import HERE, Work, environment, recipe, shape, told

from archer.models.loading import model_path
from archer.problems.streams import open_stream
from archer.recipe.algorithm import build_algorithm

CODE = {
    "import archer": "import archer",
    "import archer.train": "import archer.train",
    "import trl": "import trl",
    "import GRPOTrainer": "from trl import GRPOConfig, GRPOTrainer",
}
AGAINST = {"import archer": "import trl", "import archer.train": "import GRPOTrainer", "archer": "trl-tuned"}


def main() -> None:
    """Measure in turn, print medians and ratios, keep the record if asked to."""
    options = read_options()
    prompts, group = options.shape
    work = Work(prompts=prompts, group=group, steps=1, warmup=0, threads=options.threads)
    rows = []
    for number in range(options.rounds + 1):
        for name in (*CODE, "archer", "trl-tuned", "trl-default"):
            python = options.ours if "archer" in name else sys.executable
            taken = (imported if name in CODE else started)(name, work, python)
            if number:
                rows.append({"contender": name, "round": number, "load": os.getloadavg()[0], **taken})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    record = {"work": asdict(work), "rounds": options.rounds, "against": AGAINST, "rows": rows}
    print(page(rows))
    if options.record:
        print(f"\nRecord: {keep('cold', {**record, 'peers': peers('trl', 'accelerate', 'datasets')})}")


def imported(name: str, work: Work, python: str) -> dict[str, float]:
    """Return the seconds of an interpreter that only imports, its own start and end within them."""
    with tempfile.TemporaryDirectory() as folder:
        begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([python, "-c", CODE[name]], env=environment(work, folder), check=True, cwd=folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"seconds": time.monotonic() - begin, "cpu": cpu}


def started(name: str, work: Work, python: str) -> dict[str, float]:
    """Return the seconds until the first optimizer update ended, by the wall and of CPU, and of the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        task = words(work) if name == "archer" else given(work, name == "trl-tuned", folder)
        begin = time.monotonic()
        done = subprocess.run(
            [python, str(HERE / "cold_step.py"), name], input=json.dumps(task), text=True, capture_output=True,
            env=environment(work, folder), cwd=folder,
        )  # fmt: skip
        end = time.monotonic()
    marks = [line.split() for line in done.stdout.splitlines() if line.startswith("mark ")]
    if done.returncode or not marks:
        sys.exit(f"{done.stdout}\n{done.stderr}\n{name}: exit code {done.returncode}")
    return {"seconds": float(marks[0][1]) - begin, "cpu": float(marks[0][2]), "whole": end - begin}


def words(work: Work) -> list[str]:
    """Return the command line of ``archer train``."""
    changes = [word for change in told(work) for word in ("--set", change)]
    return ["archer", "train", "lab", "--algorithm", work.algorithm, "--threads", str(work.threads), "--out", "run",
            *changes]  # fmt: skip


def given(work: Work, tuned: bool, folder: str) -> dict[str, Any]:
    """Return what TRL's process is given: model, settings, threads, and rows of prompt and answer."""
    made = recipe(work)
    problems = open_stream(made.data, work.seed).take(0, work.prompts)
    settings = trl_settings(work, made, build_algorithm(made, work.algorithm), tuned)
    rows = [{"prompt": [talk(one)], "gold": str(one.gold)} for one in problems]
    config = {"output_dir": folder, **settings}
    return {"model": model_path(work.model), "config": config, "rows": rows, "threads": work.threads}


def page(rows: list[dict[str, float]]) -> str:
    """Return medians with their range, and peer by archer, round by round."""
    lines, ratios = [], []
    by = {(row["contender"], row["round"]): row for row in rows}
    rounds = sorted({row["round"] for row in rows})
    for name in dict.fromkeys(row["contender"] for row in rows):
        lines.append([name, *(spread([by[name, number][what] for number in rounds]) for what in ("seconds", "cpu"))])
    for ours, theirs in AGAINST.items():
        pairs = [(by[ours, number], by[theirs, number]) for number in rounds]
        ratios.append(
            [f"{ours} / {theirs}", *(spread([a[what] / b[what] for a, b in pairs]) for what in ("seconds", "cpu"))]
        )
    head = ["median (min..max over rounds)", "seconds", "CPU seconds"]
    return f"{table(head, lines)}\n\n{table(head, ratios)}"


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shape", type=shape, default=(32, 16), metavar="32x16", help="prompts x samples of the step")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ours", default=sys.executable, help="an interpreter for archer: its own install's")
    parser.add_argument("--record", action="store_true", help="write leaderboards/perf/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
