"""Kill a run at random moments and compare what it becomes with a run that nobody disturbed.

    python perf/kills.py --recipe lab --kills 20 --record
    python perf/kills.py --recipe lab --ranks 2 --kills 20 --set update.deepspeed.stage=3 --set rollout.engine=vllm

Each kill is SIGKILL to one process chosen at random: the main rank, another rank, a process that a rank started (an
engine, a grading worker), or any of them in the moment in which a checkpoint is being written. The rest must end by
itself, within the deadline, with an error; then the same command starts again. At the end metrics, rollouts and weights
must be bitwise those of the undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from common import keep

from archer.runs.folder import read_lines
from archer.types import Json

TARGETS = ("main", "rank", "engine", "checkpoint")
PATIENCE = 120.0  # seconds beyond the deadline for the survivors to end


@dataclass
class Run:
    """One run folder and the command that fills it, on ``ranks`` processes."""

    arguments: list[str]
    out: Path
    ranks: int
    steps: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start every rank."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.processes = [self._rank(rank, port) for rank in range(self.ranks)]

    def _rank(self, rank: int, port: int) -> subprocess.Popen[bytes]:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.ranks, "LOCAL_WORLD_SIZE": self.ranks}
        joined = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **place} if self.ranks > 1 else {}
        environment = {**os.environ, **{key: str(value) for key, value in joined.items()}}
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out.parent / f"{self.out.name}-rank{rank}.log").open("wb") as log:
            return subprocess.Popen(
                [*self.arguments, "--out", str(self.out)], env=environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def said(self) -> list[str]:
        """Return the last line that each rank said."""
        logs = [self.out.parent / f"{self.out.name}-rank{rank}.log" for rank in range(self.ranks)]
        return [next(iter(log.read_text(errors="replace").splitlines()[-1:]), "") for log in logs]

    def done(self) -> int:
        """Return the steps recorded."""
        return len(read_lines(self.out / "metrics.jsonl"))

    def alive(self) -> bool:
        """Say whether any rank still runs."""
        return any(process.poll() is None for process in self.processes)

    def finish(self) -> list[int]:
        """Wait for every rank; return the exit codes."""
        return [process.wait() for process in self.processes]


def main() -> None:
    """Disturb one run, compare it with another, print and record."""
    options = read_options()
    rng = random.Random(options.seed)
    unbroken, broken = (Run(command(options), options.work / name, options.ranks, options.steps) for name in ("a", "b"))
    shutil.rmtree(options.work, ignore_errors=True)
    unbroken.start()
    if any(unbroken.finish()):
        sys.exit(f"the undisturbed run failed: {unbroken.said()}")
    lines = read_lines(unbroken.out / "timings.jsonl")
    span = sum(value for line in lines for key, value in line.items() if key != "step") / len(lines)
    kills: list[dict[str, Json]] = []
    while len(kills) < options.kills:
        kill = disturb(broken, TARGETS[len(kills) % len(TARGETS)], rng, span, options.deadline)
        kills += [kill] if kill["killed"] else []  # the run was faster than the kill: it does not count
        print(json.dumps(kill), flush=True)
    broken.start()
    codes = broken.finish()
    same = not any(codes) and content(broken.out) == content(unbroken.out)
    print(f"{len(kills)} kills, exit codes at the end {codes}: {'bitwise the same' if same else 'NOT THE SAME'}")
    if options.record:
        print(f"Record: {keep('kills', {'kills': kills, 'same': same})}")
    sys.exit(0 if same else 1)


def disturb(run: Run, target: str, rng: random.Random, span: float, deadline: float) -> dict[str, Json]:
    """Start the run, kill one process at a random moment, wait for the others to end; return what happened.

    The run starts over where it finished before that moment.
    """
    if run.done() >= run.steps:
        shutil.rmtree(run.out)
    run.start()
    before = run.done()
    while run.done() <= before and run.alive():
        time.sleep(0.01)
    if target != "checkpoint":  # which is a moment of its own
        time.sleep(rng.uniform(0.0, 1.5 * span))
    victim = None
    while victim is None and run.alive() and run.done() < run.steps:
        victim = choose(run, target, rng)
    killed, at = time.monotonic(), run.done()
    if victim is not None:
        victim.kill()
    limit = killed + deadline + PATIENCE
    while run.alive() and time.monotonic() < limit:
        time.sleep(0.05)
    hung = run.alive()
    for process in run.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    codes = run.finish()
    return {
        "target": target, "killed": " ".join(victim.info["cmdline"][:6]) if victim else "", "steps": at,
        "seconds": round(time.monotonic() - killed, 2), "codes": codes, "hung": hung, "said": run.said(),
    }  # fmt: skip


def choose(run: Run, target: str, rng: random.Random) -> psutil.Process | None:
    """Return the process to kill, None while there is none of that kind."""
    try:
        ranks = [psutil.Process(process.pid) for process in run.processes if process.poll() is None]
        started = [child for rank in ranks for child in rank.children(recursive=True)]
        writing = list((run.out / "checkpoints").glob(".step-*.tmp"))
        engines = [child for child in started if any("engines.vllm" in word for word in child.cmdline())]
        kinds = {"main": ranks[:1], "rank": ranks[-1:], "engine": engines or started, "checkpoint": writing and ranks}
        pool = kinds[target]
        victim = rng.choice(pool) if pool else None
        if victim is not None:
            victim.info = {"cmdline": victim.cmdline()}
    except psutil.NoSuchProcess:
        return None
    return victim


def content(out: Path) -> dict[str, bytes]:
    """Return every file that must not depend on a run's history."""
    files = [out / "metrics.jsonl", *sorted((out / "rollouts").iterdir())]
    files += sorted((out / "checkpoints").glob("*/*.safetensors"))
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def command(options: argparse.Namespace) -> list[str]:
    """Return the training command, less its folder."""
    changes = [f"steps={options.steps}", "evaluate.benchmarks=[]", *options.changes]
    if options.ranks > 1:
        changes.append(f"update.deepspeed.seconds={options.deadline}")
    own = [sys.executable, "-m", "archer", "train", options.recipe, "--algorithm", options.algorithm, "--threads", "1"]
    return [*own, *(part for change in changes for part in ("--set", change))]


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="lab")
    parser.add_argument("--algorithm", default="archer")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds that a call of all ranks may take")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="changes of the recipe")
    parser.add_argument("--work", type=Path, default=Path("runs/kills"))
    parser.add_argument("--record", action="store_true", help="write leaderboards/perf/kills-<date>.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
