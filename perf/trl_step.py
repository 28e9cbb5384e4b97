"""Seconds per RL step on the CPU: archer's loop beside TRL 1.16's GRPOTrainer, on the same work.

    python perf/trl_step.py --shape 8x64 --algorithm dapo --record
    python perf/trl_step.py --lengths fixed --record              # every response as long as it may be

Every measurement is a process of its own (``contenders.py``); see README.md for what is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from claims import learning_gap
from common import keep, peers, spread, table
from work import Measurement, Work, by_contender, mean, measure, progress, seconds, shape, speed

from archer.system import provenance

CONTENDERS = ("archer", "trl-tuned", "trl-default")


def main() -> None:
    """Measure in turn, print the tables, keep the record if asked to."""
    options = read_options()
    measurements = []
    for number in range(options.rounds):
        for contender in options.contenders:
            measurements.append(measure(contender, number, work(options, number)))
            print(progress(measurements[-1]), file=sys.stderr, flush=True)
    record = {
        "work": asdict(work(options, 0)), "rounds": options.rounds, "peers": peers("trl", "accelerate", "datasets"),
        "measurements": measurements,
    }  # fmt: skip
    print(page(record))
    if options.record:
        prompts, group = options.shape
        lengths = "" if options.lengths == "natural" else f"-{options.lengths}"
        print(f"\nRecord: {keep(f'trl-{options.algorithm}-{prompts}x{group}{lengths}', record)}")


def read_options() -> argparse.Namespace:
    """Return the command line; what contradicts itself ends the program with a message."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--model", default="lab", help="lab (the embedded model) or a Hugging Face folder")
    add("--algorithm", choices=("grpo", "dapo"), default="grpo", help="grpo: no KL; dapo: no refill")
    add("--shape", type=shape, default=(32, 16), metavar="32x16", help="prompts x samples a step")
    add("--updates", type=int, default=4, help="optimizer updates a step")
    add("--max-tokens", type=int, default=160)
    add("--lengths", choices=("natural", "fixed"), default="natural", help="fixed: no token ends a response")
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


def work(options: argparse.Namespace, number: int) -> Work:
    """Return the work of a round: its number is the seed, so all contenders meet the same problems."""
    prompts, group = options.shape
    values = {name: value for name, value in vars(options).items() if name in Work.__dataclass_fields__}
    return Work(**values, prompts=prompts, group=group, seed=number)


def page(record: dict[str, Any]) -> str:
    """Return the record as markdown."""
    rounds, work, origin = by_contender(record["measurements"]), record["work"], provenance()
    versions = {**record["peers"], **origin["versions"]}
    most = {"natural": "at most", "fixed": "all"}
    loads = [one["load"] for one in record["measurements"]]
    head = (
        f"{work['algorithm']}, {work['prompts']} x {work['group']} responses of "
        f"{most[work['lengths']]} {work['max_tokens']} tokens, {work['updates']} updates a step, "
        f"{work['threads']} threads; {record['rounds']} rounds of "
        f"{work['steps']} steps after {work['warmup']} of warm-up. Commit {origin['commit']}, "
        f"TRL {versions['trl']}, torch {versions['torch']}, transformers {versions['transformers']}, "
        f"{origin['machine']['processor']}. Load before a measurement: {min(loads):.1f} to {max(loads):.1f}."
    )
    parts = [head, costs(rounds), ratios(rounds), rewards(rounds), equality(rounds), settings(rounds)]
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
        rows.append([contender, str(spread([seconds(one) for one in ones])), *split, *pace])
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
        rows.append([f"{contender} / archer", *(str(spread([f(*pair) for pair in pairs])) for f in quotients)])
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


def equality(rounds: dict[str, list[Measurement]]) -> str:
    """Say whether the mean rewards of all steps and rounds tell the contenders apart."""
    if "archer" not in rounds:
        return ""
    lines = []
    for name in rounds.keys() - {"archer"}:
        gap = learning_gap(rounds["archer"], rounds[name])
        verdict = "they differ" if gap.tells_apart else "no difference shown"
        lines.append(
            f"Mean reward, archer less {name}: {gap.value:+.4f} (95 % {gap.low:+.4f}..{gap.high:+.4f}, paired by round "
            f"and step): {verdict}."
        )
    return "\n".join(sorted(lines))


def settings(rounds: dict[str, list[Measurement]]) -> str:
    """What each contender was told; the record holds every value, defaults too."""
    return "\n".join(f"- {name}: `{json.dumps(ones[0]['told'])}`" for name, ones in rounds.items())


if __name__ == "__main__":
    main()
