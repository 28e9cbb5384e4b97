"""Programs judged a second, archer beside verl's ``prime_code``, on the same programs and tests, in turn.

    python -m pip install -e '.[docker]' && python -m pip install --no-deps verl
    python perf/sandbox_peer.py --record
    python perf/sandbox_peer.py --executor docker --rows ROWS.jsonl --programs PROGRAMS.jsonl

``prime_code`` is LiveCodeBench-style judging: a process per program, all tests within it, no isolation.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType
from typing import Any

from common import keep, peers

from archer.evaluation.reference_programs import ReferenceProgram, judge_programs, labelled
from archer.sandbox import Sandbox
from archer.system import cores
from archer.tools.attacks.bench import opened
from archer.types import Problem

SUM = "print(sum(map(int, input().split())))"
Judge = Callable[[Sequence[ReferenceProgram]], int]  # how many are right


def main() -> None:
    """Measure in turn, print a line a measurement and the ratios."""
    options = read_options()
    work = {"1 test each": trivial(1, options.count), "10 tests each": trivial(10, options.count)}
    if options.rows:
        form = "livecodebench"
        work["real programs"] = labelled(form, Path(options.rows), Path(options.programs))[0]
    record: dict[str, Any] = {
        "executor": options.executor, "workers": cores(), "peer": f"verl {peers('verl')['verl']} prime_code",
        "rounds": options.rounds, "measurements": [],
    }  # fmt: skip
    sandbox = Sandbox(options.executor, docker_hosts=tuple(options.docker_host))
    with opened(sandbox) as executor, ProcessPoolExecutor(cores()) as pool:
        judges: dict[str, Judge] = {
            "archer": lambda programs: len(programs) - len(judge_programs(executor, programs).failed),
            "prime_code": lambda programs: sum(pool.map(peer_judge, map(peer_work, programs))),
        }
        for programs in work.values():
            for one in judges.values():
                one(programs[:20])  # warm
        for number in range(options.rounds):
            for name, programs in work.items():
                for who, one in judges.items():
                    record["measurements"].append({"round": number, "work": name, "who": who, **timed(one, programs)})
                    print(json.dumps(record["measurements"][-1]), flush=True)
    print(page(record))
    if options.record:
        print(f"\nRecord: {keep(f'sandbox-{options.executor}', record)}")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executor", default="bubblewrap")
    parser.add_argument("--docker-host", action="append", default=[], help="a Docker host's URL")
    parser.add_argument("--count", type=int, default=200, help="trivial programs of each kind")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", help="LiveCodeBench rows")
    parser.add_argument("--programs", help="programs labelled right, for --rows")
    parser.add_argument("--record", action="store_true", help="write leaderboards/perf/")
    return parser.parse_args()


def trivial(tests: int, count: int) -> list[ReferenceProgram]:
    """Return ``count`` programs that differ in a comment, each with its tests."""
    gold = {"tests": [{"stdin": f"3 {number}\n", "expected": f"{3 + number}\n"} for number in range(tests)]}
    problem = Problem("sum", "trivial", "", "code", gold)
    return [ReferenceProgram(problem, f"# {number}\n{SUM}") for number in range(count)]


def timed(judging: Judge, programs: Sequence[ReferenceProgram]) -> dict[str, float]:
    """Judge all programs and return how many were right, and how many a second."""
    begin = time.perf_counter()
    right = judging(programs)
    return {"right": right, "of": len(programs), "per_second": len(programs) / (time.perf_counter() - begin)}


def peer_work(real: ReferenceProgram) -> tuple[str, str]:
    """Return a program and its tests as ``prime_code`` takes them."""
    gold = real.problem.gold
    if gold.get("function"):
        lines = ["\n".join(map(json.dumps, test["arguments"])) for test in gold["tests"]]
        tests = {"inputs": lines, "outputs": [json.dumps(test["expected"]) for test in gold["tests"]]}
        return real.program, json.dumps({"fn_name": gold["function"], **tests})
    tests = {
        key: [test[name] for test in gold["tests"]] for key, name in (("inputs", "stdin"), ("outputs", "expected"))
    }
    return real.program, json.dumps(tests)


def peer_judge(work: tuple[str, str]) -> bool:
    """Judge one program in this process's turn, as verl's reward workers do."""
    program, tests = work
    try:
        right, _ = peer().compute_score(f"```python\n{program}\n```", tests)
    except UnboundLocalError:  # its own slip (0.9.1), on every program that is not right
        return False
    return bool(right)


def peer() -> ModuleType:
    """Load ``prime_code`` alone: the package around it wants Ray."""
    if "prime_code" not in sys.modules:
        place = Path(str(distribution("verl").locate_file("verl/utils/reward_score/prime_code")))
        spec = importlib.util.spec_from_file_location(
            "prime_code", place / "__init__.py", submodule_search_locations=[str(place)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules["prime_code"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["prime_code"])
    return sys.modules["prime_code"]


def page(record: dict[str, Any]) -> str:
    """Return the ratios, taken within rounds, as markdown."""
    lines = ["", "| work | archer/s | prime_code/s | ratio (range over rounds) | right |", "|---|---|---|---|---|"]
    by = {(one["work"], one["who"], one["round"]): one for one in record["measurements"]}
    for work in dict.fromkeys(one["work"] for one in record["measurements"]):
        ours, theirs = ([by[work, who, turn] for turn in range(record["rounds"])] for who in ("archer", "prime_code"))
        ratios = [us["per_second"] / them["per_second"] for us, them in zip(ours, theirs, strict=True)]
        rates = [statistics.median(one["per_second"] for one in ones) for ones in (ours, theirs)]
        right = f"{ours[0]['right']} and {theirs[0]['right']} of {ours[0]['of']}"
        spread = f"{statistics.median(ratios):.1f}x ({min(ratios):.1f}-{max(ratios):.1f})"
        lines.append(f"| {work} | {rates[0]:.0f} | {rates[1]:.0f} | {spread} | {right} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
