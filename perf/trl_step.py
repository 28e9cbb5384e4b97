"""Seconds per RL step on the CPU: archer's loop beside TRL 1.16's GRPOTrainer, on the same work.

    python perf/trl_step.py --shape 8x64 --algorithm dapo --record

Every measurement is a process of its own (``contenders.py``); see README.md for what is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from archer.machine import installed, provenance

HERE = Path(__file__).resolve().parent
RECORDS = HERE.parent / "leaderboards" / "perf"
CONTENDERS = ("archer", "trl-tuned", "trl-default")
PACKAGES = ("trl", "accelerate", "datasets")
# contender, round, load, steps: [{seconds, parts, tokens, length, reward}], rewards, rss_mib, told, settings
Measurement = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What every contender has to do: the same prompts, samples and optimizer updates."""

    model: str
    algorithm: str
    prompts: int
    group: int
    updates: int
    max_tokens: int
    lr: float
    steps: int
    warmup: int
    seed: int
    threads: int
    programs: bool
    trl_micro: int
    trl: dict[str, Any]

    @property
    def mini_batch(self) -> int:
        """Groups of one optimizer update."""
        return self.prompts // self.updates


def main() -> None:
    """Measure in turn, print the tables, keep the record if asked to."""
    options = read_options()
    measurements = []
    for number in range(options.rounds):
        for contender in options.contenders:
            measurements.append(measure(contender, number, work(options, number)))
            print(progress(measurements[-1]), file=sys.stderr, flush=True)
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "script": "perf/trl_step.py",
        "work": asdict(work(options, 0)),
        "rounds": options.rounds,
        "provenance": provenance() | {"peers": {name: installed(name) for name in PACKAGES}},
        "measurements": measurements,
    }
    print(page(record))
    if options.record:
        print(f"\nRecord: {keep(record)}")


def keep(record: dict[str, Any]) -> Path:
    """Write the record under a name of its own; return the path from the project's root."""
    asked, moment = record["work"], record["date"][:16].replace("-", "").replace(":", "")
    path = RECORDS / f"trl-{asked['algorithm']}-{asked['prompts']}x{asked['group']}-{moment}.json"
    RECORDS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path.relative_to(HERE.parent)


def read_options() -> argparse.Namespace:
    """Return the command line; what contradicts itself ends the program with a message."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--model", default="lab", help="lab (the embedded model) or a Hugging Face folder")
    add("--algorithm", choices=("grpo", "dapo"), default="grpo", help="grpo: no KL; dapo: no refill")
    add("--shape", type=shape, default=(32, 16), metavar="32x16", help="prompts x samples a step")
    add("--updates", type=int, default=4, help="optimizer updates a step")
    add("--max-tokens", type=int, default=160)
    add("--lr", type=float, default=2e-4)
    add("--steps", type=int, default=5, help="measured steps of each measurement")
    add("--warmup", type=int, default=1, help="steps before them, not counted")
    add("--rounds", type=int, default=3)
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--programs", action="store_true", help="lab-code too, run in the sandbox")
    add("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    add("--trl-micro", type=int, default=16, help="tuned TRL: responses of a forward pass, at most")
    add("--trl", type=json.loads, default={}, help="tuned TRL: more of GRPOConfig, as JSON")
    add("--record", action="store_true", help="write leaderboards/perf/")
    options = parser.parse_args()
    if options.shape[0] % options.updates:
        parser.error(f"--shape: {options.shape[0]} prompts do not split into {options.updates} updates")
    if options.warmup < 1 or options.steps < 1:
        parser.error("--warmup and --steps: at least 1 (a step is timed from the end of the one before)")
    return options


def shape(text: str) -> tuple[int, int]:
    """Read ``32x16``."""
    prompts, group = text.split("x")
    return int(prompts), int(group)


def work(options: argparse.Namespace, number: int) -> Work:
    """Return the work of a round: its number is the seed, so all contenders meet the same problems."""
    prompts, group = options.shape
    values = {name: value for name, value in vars(options).items() if name in Work.__dataclass_fields__}
    return Work(**values, prompts=prompts, group=group, seed=number)


def measure(contender: str, number: int, work: Work) -> Measurement:
    """Run one contender in a process of its own. Exits with its output when it fails."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        task, answer = Path(folder) / "task.json", Path(folder) / "answer.json"
        task.write_text(json.dumps({"contender": contender, "work": asdict(work)}))
        threads = str(work.threads)
        environment = {
            "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TMPDIR": folder,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, str(HERE / "contenders.py"), str(task), str(answer)],
            env=os.environ | environment, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{done.stdout}\n{done.stderr}\n{contender}: exit code {done.returncode}")
        return {"contender": contender, "round": number, "load": load, **json.loads(answer.read_text())}


def seconds(one: Measurement) -> float:
    """Return the median seconds of a measurement's counted steps."""
    return median(step["seconds"] for step in one["steps"])


def speed(one: Measurement) -> float:
    """Return generated tokens a second over whole steps, of a median step."""
    return median(step["tokens"] / step["seconds"] for step in one["steps"])


def mean(one: Measurement, name: str) -> float:
    """Return the mean of a column over a measurement's counted steps."""
    return sum(step[name] for step in one["steps"]) / len(one["steps"])


def progress(one: Measurement) -> str:
    """Return a line for somebody who waits."""
    return f"round {one['round']}: {one['contender']:11} {seconds(one):7.2f} s a step (load {one['load']:.1f})"


def page(record: dict[str, Any]) -> str:
    """Return the record as markdown."""
    rounds: dict[str, list[Measurement]] = {}
    for one in record["measurements"]:
        rounds.setdefault(one["contender"], []).append(one)
    work, origin = record["work"], record["provenance"]
    versions = {**origin["peers"], **origin["versions"]}
    loads = [one["load"] for one in record["measurements"]]
    head = (
        f"{work['algorithm']}, {work['prompts']} x {work['group']} responses of at most {work['max_tokens']} "
        f"tokens, {work['updates']} updates a step, {work['threads']} threads; {record['rounds']} rounds of "
        f"{work['steps']} steps after {work['warmup']} of warm-up. Commit {origin['commit']}, "
        f"TRL {versions['trl']}, torch {versions['torch']}, transformers {versions['transformers']}, "
        f"{origin['machine']['processor']}. Load before a measurement: {min(loads):.1f} to {max(loads):.1f}."
    )
    parts = [head, costs(rounds), ratios(rounds), rewards(rounds), settings(rounds)]
    return "\n\n".join(part for part in parts if part)


def costs(rounds: dict[str, list[Measurement]]) -> str:
    """Seconds by part; medians over the rounds."""
    names = ("generate", "reward", "score", "update", "rest")
    rows = []
    for contender, ones in rounds.items():
        split = [part(ones, name) for name in names]
        tokens, length = (median(mean(one, name) for one in ones) for name in ("tokens", "length"))
        peak = median(one["rss_mib"] for one in ones)
        pace = [f"{tokens:.0f}", f"{median(map(speed, ones)):.0f}", f"{length:.1f}", f"{peak:.0f}"]
        rows.append([contender, spread([seconds(one) for one in ones]), *split, *pace])
    return table(["", "s a step", *names, "tokens a step", "tokens/s", "mean length", "peak MiB"], rows)


def part(ones: Sequence[Measurement], name: str) -> str:
    """Return the median seconds of a step's part, a dash where it is not measured apart."""
    values = [[step["parts"][name] for step in one["steps"] if name in step["parts"]] for one in ones]
    return f"{median(map(median, values)):.2f}" if all(values) else "-"


def ratios(rounds: dict[str, list[Measurement]]) -> str:
    """Peer by archer, round by round: above 1, archer is the faster."""
    rows = []
    for contender, ones in rounds.items():
        if contender == "archer" or "archer" not in rounds:
            continue
        pairs = list(zip(ones, rounds["archer"], strict=True))
        quotients: list[Callable[[Measurement, Measurement], float]] = [
            lambda peer, ours: seconds(peer) / seconds(ours), lambda peer, ours: speed(ours) / speed(peer),
        ]  # fmt: skip
        rows.append([f"{contender} / archer", *(spread([f(*pair) for pair in pairs]) for f in quotients)])
    return table(["median (min..max over rounds)", "seconds a step", "seconds a token"], rows) if rows else ""


def rewards(rounds: dict[str, list[Measurement]]) -> str:
    """Mean reward of every step, warm-up included: learning compares, up to the noise of sampling."""
    columns = {
        name: [sum(values) / len(values) for values in zip(*(one["rewards"] for one in ones), strict=True)]
        for name, ones in rounds.items()
    }
    steps = enumerate(zip(*columns.values(), strict=True))
    rows = [[str(step), *(f"{reward:.3f}" for reward in rewards)] for step, rewards in steps]
    return table(["mean reward at step", *columns], rows)


def settings(rounds: dict[str, list[Measurement]]) -> str:
    """What each contender was told; the record holds every value, defaults too."""
    return "\n".join(f"- {name}: `{json.dumps(ones[0]['told'])}`" for name, ones in rounds.items())


def spread(values: Sequence[float]) -> str:
    """Return median (min..max)."""
    return f"{median(values):.2f} ({min(values):.2f}..{max(values):.2f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
